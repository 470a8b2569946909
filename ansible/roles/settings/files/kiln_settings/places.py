"""Where everything lies, and what the image says of itself: a document is judged by that."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STORE = "/var/lib/kiln/settings"
"""Generations of files, and the link ``current`` to the one that counts."""


@dataclass(frozen=True)
class Places:
    """Paths of a machine.

    Parameters
    ----------
    root:
        Its root folder: ``/``, or another one to try it out.
    """

    root: Path = Path("/")

    def at(self, path: str) -> Path:
        """A path of the machine."""
        return self.root / path.lstrip("/")

    @property
    def document(self) -> Path:
        """What user data brings."""
        return self.at("/etc/kiln/settings.toml")

    @property
    def schemas(self) -> Path:
        """Schemas that the image reads."""
        return self.at("/usr/share/kiln/settings")

    @property
    def store(self) -> Path:
        """See STORE."""
        return self.at(STORE)

    @property
    def status(self) -> Path:
        """How it stands, as JSON."""
        return self.at("/run/kiln/settings.json")

    @property
    def ready(self) -> Path:
        """There once the units may start; each of them asserts it."""
        return self.at("/run/kiln/settings.ready")

    @property
    def efs(self) -> Path:
        """Where kiln-efs and its generator look."""
        return self.at("/etc/kiln/efs.env")


@dataclass(frozen=True)
class Image:
    """What the roles have decided, read from the files that they wrote.

    Parameters
    ----------
    consumers:
        Units that take what a document says.
    app_dir, conf, studies:
        Of the server: folder of its app, settings of the app, folder of the studies on the disk.
    models:
        Those whose weights are there.
    mount_point, mount_consumers:
        Of EFS, and the units that demand it; no mount point where the image has no client.
    auth:
        What /etc/kiln/auth.json says.
    gateway:
        What /etc/kiln/gateway.json says.
    versions:
        Whether the server's store keeps earlier versions of labels.
    """

    consumers: tuple[str, ...] = ()
    app_dir: str = ""
    conf: str = "{}"
    studies: str = ""
    models: tuple[str, ...] = ()
    mount_point: str = ""
    auth: str = "{}"
    gateway: str = "{}"
    versions: bool = False

    @property
    def mount_unit(self) -> str:
        """Name that systemd gives the mount."""
        return self.mount_point.strip("/").replace("/", "-") + ".mount"


def _json(path: Path) -> dict[str, Any]:
    """What a file says; nothing where it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _variables(path: Path) -> dict[str, str]:
    """Variables of an EnvironmentFile as the roles write it."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return {
        name: value[1:-1] if value[:1] == value[-1:] == "'" else value
        for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)
    }


def image(places: Places) -> Image:
    """Read what the image says of itself."""
    server = _variables(places.at("/etc/kiln/monai-label.env"))
    return Image(
        consumers=tuple(_json(places.at("/usr/local/lib/kiln/settings.json")).get("consumers", [])),
        app_dir=server.get("MONAI_LABEL_APP_DIR", ""),
        conf=server.get("MONAI_LABEL_APP_CONF", "{}"),
        studies=server.get("MONAI_LABEL_STUDIES", ""),
        models=tuple(_json(places.at("/etc/kiln/weights.json")).get("models", [])),
        mount_point=_json(places.at("/usr/local/lib/kiln/efs.json")).get("mount_point", ""),
        auth=json.dumps(_json(places.at("/etc/kiln/auth.json"))),
        gateway=json.dumps(_json(places.at("/etc/kiln/gateway.json"))),
        versions=places.at("/opt/monai-label/kiln_store").is_dir(),
    )


def linked(places: Places, path: str, above: str) -> str:
    """First part of a path below a folder that is a link, empty where none is."""
    found = Path(path)
    parts = [part for part in (*reversed(found.parents), found) if part.is_relative_to(above)]
    return next((str(part) for part in parts if places.at(str(part)).is_symlink()), "")
