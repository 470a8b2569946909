"""Names that come from a client or from a file that others write, before they become part of a path."""

from __future__ import annotations

import re

from .errors import RefusedError

_EXTENSION = re.compile(r"(\.[A-Za-z0-9_+-]{1,16}){0,4}")


def plain(name: str, what: str, room: int = 40) -> str:
    """Return a name that is one component of a path and is not hidden.

    Parameters
    ----------
    name:
        As a client gives it: an image's id or a label's tag.
    what:
        What it names, for the message.
    room:
        Bytes that are left of a file name's 255, for an extension or a suffix.

    Raises
    ------
    RefusedError
        It is anything else. Hidden names are the store's own.
    """
    if (
        not isinstance(name, str)
        or not name
        or name.startswith(".")
        or "/" in name
        or any(ord(letter) < 32 or ord(letter) == 127 for letter in name)
        or len(name.encode(errors="surrogatepass")) > 255 - room
        or not _encodable(name)
    ):
        raise RefusedError(
            f"{name!r} cannot be {what}",
            f"use 1 to {255 - room} bytes without / and control characters, not beginning with a dot",
        )
    return name


def extension(text: str) -> str:
    """Return the extension of a file as it is; it may be empty.

    Raises
    ------
    RefusedError
        It is none.
    """
    if not _EXTENSION.fullmatch(text):
        raise RefusedError(
            f"{text[:80]!r} cannot be a file's extension", "upload a file with an extension such as .nii.gz"
        )
    return text


def inside(path: str, what: str) -> str:
    """Return a relative path that does not leave the folder that it is relative to, without ``.`` in it.

    Parameters
    ----------
    path:
        As a file that others write has it.
    what:
        What it is, for the message.

    Raises
    ------
    RefusedError
        It is absolute, or goes up, or into what is the store's own.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if (
        path.startswith("/")
        or ".kiln-store" in parts
        or ".." in parts
        or "\0" in path
        or not _encodable(path)
    ):
        raise RefusedError(
            f"{path!r} as {what} leads out of the studies folder", "correct it in datastore_v2.json"
        )
    return "/".join(parts)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
