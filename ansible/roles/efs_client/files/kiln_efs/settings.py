"""Where the studies are: /etc/kiln/efs.env, and what the image itself says."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FILE = Path(os.environ.get("KILN_EFS_SETTINGS", "/etc/kiln/efs.env"))
IMAGE = Path(__file__).resolve().parent.parent / "efs.json"

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""A folder's name: no part can be . or .., none has a character that systemd reads as its own."""


class TroubleError(Exception):
    """Why the studies are not there.

    Parameters
    ----------
    what:
        What happened, in one line.
    do:
        What an operator can do, in one line.
    passing:
        Whether it may be gone a moment later without anybody's help.
    """

    def __init__(self, what: str, do: str, *, passing: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.do = do
        self.passing = passing

    def __str__(self) -> str:
        return f"{self.what}; {self.do}"


@dataclass(frozen=True)
class Settings:
    """What /etc/kiln/efs.env says.

    Parameters
    ----------
    host:
        Name of the file system's mount target; its certificate must carry it.
    port:
        Its port, for TLS.
    path:
        What of the file system is mounted.
    folder:
        Folder below that for the server's studies; made if missing.
    ca:
        File with the certificates of those who may sign the mount target's.
    """

    host: str = "unset.invalid"
    port: int = 2049
    path: str = "/"
    folder: str = "default"
    ca: str = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True)
class Image:
    """What the role has decided.

    Parameters
    ----------
    mount_point:
        Where the file system is mounted.
    consumers:
        Units that write there and must not start without it.
    id:
        User and group of the server's folder.
    tunnel:
        Whether the mount goes through our stunnel; false where amazon-efs-utils brings its own.
    """

    mount_point: str
    consumers: tuple[str, ...]
    id: int
    tunnel: bool

    @property
    def mount_unit(self) -> str:
        """Name that systemd gives the mount."""
        return self.mount_point.strip("/").replace("/", "-") + ".mount"


@dataclass(frozen=True)
class _Key:
    field: str
    pattern: str
    meaning: str
    convert: Callable[[str], object] = str


KEYS = {
    "EFS_HOST": _Key("host", r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", "a host name"),
    "EFS_PORT": _Key("port", r"[1-9][0-9]{0,4}", "a port", int),
    "EFS_PATH": _Key("path", rf"/|(/{NAME})+", "an absolute path of plain names"),
    "EFS_FOLDER": _Key("folder", rf"{NAME}(/{NAME})*", "a relative path of plain names"),
    "EFS_CA": _Key("ca", rf"(/{NAME})+", "an absolute path of plain names"),
}
"""Every key of the file."""


def parse(text: str) -> Settings:
    """Settings of the file's text.

    Raises
    ------
    TroubleError
        A line is no KEY=value, a key is unknown, a value cannot be meant, or EFS_HOST is missing.
    """
    found: dict[str, object] = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, value = (part.strip() for part in line.partition("="))
        key = KEYS.get(name)
        if key is None:
            raise TroubleError(f"{FILE} has {line.strip()[:40]!r}", f"it knows {', '.join(KEYS)}: KEY=value")
        if not re.fullmatch(key.pattern, value) or (key.convert is int and int(value) > 65535):
            raise TroubleError(f"{name}={value[:60]} is not {key.meaning}", f"correct {FILE}")
        found[key.field] = key.convert(value)
    if "host" not in found:
        raise TroubleError(f"{FILE} does not set EFS_HOST", "set it to the DNS name of the file system")
    return Settings(**found)  # type: ignore[arg-type]


def load() -> Settings:
    """Settings of the machine.

    Raises
    ------
    TroubleError
        They are missing or wrong.
    """
    try:
        return parse(FILE.read_text(encoding="utf-8"))
    except OSError as error:
        raise TroubleError(
            f"{FILE} cannot be read: {error.strerror}", "write it, see kiln's README"
        ) from None
    except UnicodeDecodeError:
        raise TroubleError(f"{FILE} is no text", "write it anew") from None


def image() -> Image:
    """What the role has decided, beside this program."""
    body = json.loads(IMAGE.read_text(encoding="utf-8"))
    return Image(**{**body, "consumers": tuple(body["consumers"])})
