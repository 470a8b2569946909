"""A document: read, judged by its schema, then by what the image has."""

from __future__ import annotations

import ipaddress
import json
import os
import stat
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import schema
from .places import Image, Places, linked
from .trouble import Problem, TroubleError, shown

LARGEST = 64 * 1024
"""Bytes; user data has 16 KiB."""

KEY = "/etc/kiln/auth/signing.key"
"""Where kiln-auth looks for the key that signs tokens; without it, it makes its own."""

Document = dict[str, Any]


def _alone(what: str, do: str) -> TroubleError:
    return TroubleError([Problem("", what, do)])


def text(path: Path) -> str | None:
    """Text of a document, None where there is none.

    Raises
    ------
    TroubleError
        It cannot be read, is too large, or is no text.
    """
    try:
        # Of a pipe the open would wait for a writer.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _alone(f"{path} cannot be read: {error.strerror}", "write it as a plain file of root") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise _alone(f"{path} is no plain file", "write it as a plain file of root")
        if status.st_mode & 0o022 or status.st_uid != os.geteuid():
            raise _alone(f"{path} may be changed by others than root", f"chown root {path}; chmod 644 {path}")
        with os.fdopen(os.dup(handle), "rb") as stream:
            body = stream.read(LARGEST + 1)
    finally:
        os.close(handle)
    if len(body) > LARGEST:
        raise _alone(f"{path} is larger than {LARGEST // 1024} KiB", "it takes a few lines; see the example")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise _alone(f"{path} is no UTF-8: byte {error.start}", "write it anew, as plain text") from None


def parse(written: str) -> Document:
    """Read TOML.

    Raises
    ------
    TroubleError
        It is none.
    """
    try:
        return tomllib.loads(written)
    except (ValueError, RecursionError) as error:
        # The library's words may repeat what is in the document, at any length and with any character.
        words = ascii(str(error))[1:-1] if isinstance(error, ValueError) else "nested too deep"
        raise _alone(
            f"the document is no TOML: {words[:200]}", 'a line is KEY = VALUE, and a string in "quotes"'
        ) from None


def judge(document: Document, image: Image, places: Places) -> None:
    """Judge a document.

    Raises
    ------
    TroubleError
        It has the wrong shape, or asks for what the image does not have.
    """
    problems = list(schema.judge(document, schema.load(places.schemas, document)))
    # Rules read what has the right shape.
    if not problems:
        problems = [problem for rule in RULES for problem in rule(document, image, places)]
    if problems:
        raise TroubleError(problems)


def doubts(document: Document, image: Image, places: Places) -> Iterator[Problem]:
    """What counts, and is hardly meant: several servers are one to their users only with one key."""
    shared = {
        "efs": "efs" in document,
        "gateway.trusted_proxies": "trusted_proxies" in document.get("gateway", {}),
    }
    auth = {**json.loads(image.auth), **document.get("auth", {})}
    # An issuer signs its tokens itself.
    if "kiln-auth.service" not in image.consumers or auth.get("oidc", {}).get("issuer"):
        return
    key = auth.get("signing_key_file", KEY)
    for name in [name for name, there in shared.items() if there and not places.at(key).exists()][:1]:
        yield Problem(
            name,
            f"is for several servers, and {key} is not there: a log-in at one counts at no other",
            "have write_files bring the same key to each of them: openssl rand -hex 32",
        )


def _readers(document: Document, image: Image, _places: Places) -> Iterator[Problem]:
    """Refuse a setting that nothing would read: the operator would think it counts."""
    needs = {
        "monai-label.service": ("studies", "app", "models", "device", "workers"),
        "kiln-auth.service": ("auth",),
        "kiln-health.service": ("metrics",),
        "nginx.service": ("gateway",),
    }
    for unit, keys in needs.items():
        if unit not in image.consumers:
            for key in keys:
                if key in document:
                    yield Problem(
                        key, "is read by nothing here", f"take an image with {unit}, or leave it out"
                    )
    if "labels" in document and not image.versions:
        yield Problem(
            "labels", "is read by nothing here", "take an image whose store keeps versions, or leave it out"
        )
    if "efs" in document and not image.mount_point:
        yield Problem(
            "efs", "is read by nothing here", "take an image with the role efs_client, or leave it out"
        )


def _app(document: Document, image: Image, _places: Places) -> Iterator[Problem]:
    has = Path(image.app_dir).name
    if document.get("app", has) != has:
        yield Problem(
            "app", f"is {shown(document['app'])}; this image has {has}", "take an image baked with this app"
        )
    for number, name in enumerate(document.get("models", [])):
        if name not in image.models:
            yield Problem(
                f"models[{number}]",
                f"is {shown(name)}; this image has weights of {', '.join(image.models) or 'none'}",
                "choose among these, or bake an image with this model",
            )


def _studies(document: Document, image: Image, places: Places) -> Iterator[Problem]:
    studies = document.get("studies")
    on_efs = image.mount_point and studies and Path(studies).is_relative_to(image.mount_point)
    if on_efs and studies == image.mount_point:
        yield Problem("studies", "is the mount point itself", f"name a folder below it: {studies}/NAME")
    elif on_efs and "efs" not in document:
        yield Problem("studies", "is on EFS, and efs.host is not set", "add the table efs")
    elif studies and not on_efs and "efs" in document:
        yield Problem("studies", "is on the disk, and efs is set", f"name a folder below {image.mount_point}")
    elif studies and not on_efs:
        if not image.studies or not Path(studies).is_relative_to(image.studies):
            allowed = ", ".join(place for place in (image.mount_point, image.studies) if place)
            yield Problem(
                "studies", f"is {shown(studies)}, where the server may not write", f"below: {allowed}"
            )
        elif link := linked(places, studies, image.studies):
            yield Problem("studies", f"leads through the link {shown(link)}", "name the folder itself")


def _efs(document: Document, _image: Image, places: Places) -> Iterator[Problem]:
    if "efs" not in document:
        return
    if os.path.lexists(places.efs) and not places.efs.is_symlink():
        yield Problem("efs", "is set, and /etc/kiln/efs.env was written by hand", "remove one of the two")
    if (ca := document["efs"].get("ca")) and not places.at(ca).is_file():
        yield Problem("efs.ca", f"is {shown(ca)}, which is not there", "have write_files bring it")


def _auth(document: Document, _image: Image, places: Places) -> Iterator[Problem]:
    auth = document.get("auth")
    if auth is None:
        return
    if ("users_file" in auth) == ("oidc" in auth):
        yield Problem(
            "auth", "needs users_file or oidc, one of them", "with an issuer a users file does not count"
        )
    files = {
        "auth.users_file": auth.get("users_file"),
        "auth.oidc.client_secret_file": auth.get("oidc", {}).get("client_secret_file"),
    }
    for key, path in files.items():
        if path is not None:
            yield from _file(key, path, places, secret=True)


def _file(key: str, path: str, places: Places, *, secret: bool) -> Iterator[Problem]:
    """Refuse a file that is not there, or a secret that is everybody's."""
    try:
        status = places.at(path).lstat()
    except OSError:
        yield Problem(key, "names a file that is not there", "have write_files bring it, before the settings")
        return
    if not stat.S_ISREG(status.st_mode):
        yield Problem(key, "names no plain file", "name the file itself")
    elif secret and status.st_mode & 0o007:
        yield Problem(key, "names a file that others can read", 'permissions: "0600"')


def _gateway(document: Document, _image: Image, places: Places) -> Iterator[Problem]:
    gateway = document.get("gateway", {})
    pair = ("certificate", "certificate_key")
    for key, other in (pair, pair[::-1]):
        if key in gateway and other not in gateway:
            yield Problem(f"gateway.{other}", "is missing", f"a {key} needs one; have write_files bring both")
        elif key in gateway:
            yield from _file(f"gateway.{key}", gateway[key], places, secret=key == "certificate_key")
    for number, proxy in enumerate(gateway.get("trusted_proxies", [])):
        try:
            wide = ipaddress.ip_network(proxy).prefixlen == 0
        except ValueError:
            yield Problem(
                f"gateway.trusted_proxies[{number}]",
                f"is {shown(proxy)}, which is no network",
                "write it as 10.0.0.0/16, with no bit set below the network",
            )
            continue
        if wide:
            yield Problem(
                f"gateway.trusted_proxies[{number}]",
                "is everybody: a client could then choose its own address",
                "name the load balancer's networks",
            )


RULES: tuple[Callable[[Document, Image, Places], Iterator[Problem]], ...] = (
    _readers,
    _app,
    _studies,
    _efs,
    _auth,
    _gateway,
)
