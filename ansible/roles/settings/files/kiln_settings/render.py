"""Files of the units, from a document that was judged."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .document import Document
from .places import STORE, Image

HEAD = "# Made by kiln-settings from /etc/kiln/settings.toml.\n"
PLAIN = re.compile(r"[A-Za-z0-9._/:-]+")


def quoted(value: str) -> str:
    """A value of an EnvironmentFile: in double quotes, in which four characters need a backslash.

    Raises
    ------
    ValueError
        It has a character that no line of such a file may hold.
    """
    if PLAIN.fullmatch(value):
        return value
    if not value.isprintable():
        raise ValueError(f"{value!a} cannot be a variable's value")
    return '"' + re.sub(r'(["\\`$])', r"\\\1", value) + '"'


def environment(variables: dict[str, str]) -> str:
    """An EnvironmentFile."""
    return HEAD + "".join(f"{name}={quoted(value)}\n" for name, value in variables.items())


def _server(document: Document, image: Image) -> dict[str, str]:
    found = {}
    if "models" in document:
        conf = {**json.loads(image.conf), "models": ",".join(document["models"])}
        found["MONAI_LABEL_APP_CONF"] = json.dumps(conf, sort_keys=True)
    # On EFS the drop-in of the mount says it.
    if "studies" in document and "efs" not in document:
        found["MONAI_LABEL_STUDIES"] = document["studies"]
    kind, _, number = document.get("device", "auto").partition(":")
    if kind == "cpu":
        found["CUDA_VISIBLE_DEVICES"] = ""
    if kind == "cuda":
        found["KILN_SERVE_DEVICE"] = "cuda"
    if number:
        found["CUDA_VISIBLE_DEVICES"] = number
    for key, value in document.get("workers", {}).items():
        found[f"MONAI_LABEL_{key.upper()}"] = str(value)
    if "keep_days" in document.get("labels", {}):
        found["KILN_STORE_KEEP_DAYS"] = str(document["labels"]["keep_days"])
    return found


def _health(document: Document) -> dict[str, str]:
    """What the watchers of the server are told: also what follows for them from the server's own settings."""
    metrics, timeout = document.get("metrics", {}), document.get("workers", {}).get("infer_timeout")
    kind = document.get("device", "auto").partition(":")[0]
    found = {
        "NAMESPACE": metrics.get("namespace"),
        "PUBLISH": metrics.get("seconds"),
        # Silence is explained by a request for so long, and whoever waits for its answer waits a minute more.
        "REQUEST": timeout,
        "DRAIN": timeout and timeout + 60,
        "STOP": timeout and timeout + 60,
        "WANTED": ",".join(document["models"]) if "models" in document else None,
        "GPU_WANTED": {"cuda": "promised", "cpu": "none"}.get(kind),
    }
    return {f"KILN_HEALTH_{name}": str(value) for name, value in found.items() if value is not None}


def _gateway(document: Document, image: Image) -> dict[str, Any]:
    """What nginx is told: also that it waits for an answer as long as an inference may last."""
    found = dict(document.get("gateway", {}))
    waits = json.loads(image.gateway).get("response_timeout")
    timeout = document.get("workers", {}).get("infer_timeout")
    if waits and timeout and timeout + 60 > waits and "nginx.service" in image.consumers:
        found["response_timeout"] = timeout + 60
    return found


def _efs(document: Document, image: Image) -> dict[str, str]:
    efs = document["efs"]
    found = {f"EFS_{key.upper()}": str(value) for key, value in efs.items()}
    if "studies" in document:
        found["EFS_FOLDER"] = str(Path(document["studies"]).relative_to(image.mount_point))
    return found


def files(document: Document, image: Image) -> dict[str, str]:
    """Files of a document, by name.

    Parameters
    ----------
    document:
        Judged.
    image:
        What the roles have decided.

    Returns
    -------
    dict
        An EnvironmentFile for each unit that is told something, efs.env where the studies are on EFS,
        auth.json and gateway.json.
    """
    made = {}
    if server := _server(document, image):
        made["monai-label.env"] = environment(server)
    for unit in ("kiln-health", "kiln-drain"):
        if f"{unit}.service" in image.consumers and (health := _health(document)):
            made[f"{unit}.env"] = environment(health)
    if "efs" in document:
        made["efs.env"] = environment(_efs(document, image))
    if "auth" in document:
        # What the role has set stays: how long a token counts, how often a log-in may fail.
        merged = {**json.loads(image.auth), **document["auth"]}
        made["auth.json"] = json.dumps(merged, indent=1, sort_keys=True) + "\n"
        made["kiln-auth.env"] = environment({"KILN_AUTH_SETTINGS": f"{STORE}/current/auth.json"})
    if gateway := _gateway(document, image):
        merged = {**json.loads(image.gateway), **gateway}
        made["gateway.json"] = json.dumps(merged, indent=1, sort_keys=True) + "\n"
        made["nginx.env"] = environment({"KILN_GATEWAY_SETTINGS": f"{STORE}/current/gateway.json"})
    return made
