"""What upstream's endpoints would do for whoever may infer, and a server in front of people must not.

- An archive of a session is unpacked by ours: upstream's takes ``../../x`` and links from a tar. The image's
  Python, 3.11.2, has no filter for it.
- An inference reads what the datastore or a session has, never a path of the client's: upstream infers on any
  file that exists. Nor does it evaluate what the client sends, as a bundle's settings would be.
- An inference saves nothing: its label would replace another's without a name. ``PUT /datastore/label`` does.
- A training, or a batch, does not run inside of a request: nobody would get an answer for hours.

Upstream looks up by name what is replaced here, whenever it is asked.
"""

from __future__ import annotations

import errno
import inspect
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import wraps
from pathlib import Path
from typing import IO, Any

NO = (None, False, 0, "", "false", "False", "no", "0")
"""How a client says that nothing is to be saved; upstream takes each text for a yes."""

EXPRESSIONS = ("$", "@", "%")
"""What begins a text that MONAI evaluates, looks up, or reads from a file, in the settings of a bundle."""

FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_DISK = "the disk of the server is full: nothing of the request was kept"


class RefusedError(ValueError):
    """A request that is not answered, in two lines: what it asks for, and what to ask for instead."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(f"{what}\n  fix: {hint}")


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Names in an archive, with what a file holds, and None for a folder."""
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for member in tar:
                if not (member.isdir() or member.isreg()):
                    raise RefusedError(
                        f"{member.name!r} in the archive is neither a file nor a folder",
                        "pack the files themselves, without links",
                    )
                yield member.name, None if member.isdir() else tar.extractfile(member)
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                yield entry.filename, None if entry.is_dir() else packed.open(entry)
    else:
        raise RefusedError("what was to be unpacked is no archive", "send a zip or a tar, or no uncompress")


def unpack_archive(filename: str | os.PathLike[str], extract_dir: str | os.PathLike[str]) -> None:
    """Unpack a client's archive, and nothing of it anywhere else; takes what upstream gives to shutil's.

    Only files and folders are made, so that no name leads out over a link that came before it.

    Parameters
    ----------
    filename:
        The archive: a copy of the server's own, which is removed if it is refused.
    extract_dir:
        An empty folder, which is then removed as well.

    Raises
    ------
    RefusedError
        It is damaged, no archive, or holds a name that leads out.
    OSError
        The disk is full.
    """
    try:
        for name, stream in _members(Path(filename)):
            parts = [part for part in name.split("/") if part not in ("", ".")]
            if name.startswith("/") or ".." in parts or "\0" in name:
                raise RefusedError(
                    f"{name!r} in the archive leads out of it", "pack the files from their own folder"
                )
            place = Path(extract_dir, *parts)
            if stream is None:
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            with closing(stream), place.open("wb") as file:
                shutil.copyfileobj(stream, file)
    except BaseException as error:
        shutil.rmtree(extract_dir, ignore_errors=True)
        Path(filename).unlink(missing_ok=True)
        if not isinstance(error, Exception) or isinstance(error, RefusedError):
            raise
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        # Each of five formats has errors of its own for what is damaged.
        raise RefusedError(f"the archive is damaged: {error}", "pack it again, and send all of it") from error


class Shutil:
    """The module shutil for upstream's sessions: archives are unpacked by ours."""

    unpack_archive = staticmethod(unpack_archive)

    def __getattr__(self, name: str) -> Any:
        return getattr(shutil, name)


def image_name(image: Any) -> None:
    """Refuse what is the path of a file instead of an image's name.

    Parameters
    ----------
    image:
        As the client gives it.

    Raises
    ------
    RefusedError
        It is one, or no text at all, which upstream would hand to the model as it is.
    """
    # Upstream looks whether there is such a file first, from its own folder, and only then for an image.
    if not isinstance(image, str) or _leads_out(image) or os.path.exists(image):  # noqa: PTH110 - as upstream
        raise RefusedError(
            f"{str(image)[:80]!r} is no image of this server",
            "give the name of one that GET /datastore/ lists, or send the image as a session",
        )


def parameters(asked: Any) -> dict[str, Any]:
    """Return what a client may ask of an inference.

    Parameters
    ----------
    asked:
        What it asks, as JSON has it.

    Raises
    ------
    RefusedError
        It asks for something to be saved, read from a path, or evaluated.
    """
    if not isinstance(asked, dict):
        raise RefusedError("params is no JSON object", "send an object, such as {}")
    if "image" in asked:
        image_name(asked["image"])
    _look({name: value for name, value in asked.items() if name != "image"})
    if asked.get("save_label") not in NO:
        raise RefusedError(
            "an inference saves no label here",
            "leave out save_label, and save the label by PUT /datastore/label",
        )
    return {**asked, "save_label": False} if "save_label" in asked else asked


def _leads_out(text: str) -> bool:
    return text.startswith("/") or ".." in text.replace("\\", "/").split("/")


def _look(value: Any) -> None:
    if isinstance(value, dict):
        if "_target_" in value:
            raise RefusedError("params names a class that is to be made", "send values only")
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        for one in value:
            _look(one)
    elif isinstance(value, str) and (_leads_out(value) or value.startswith(EXPRESSIONS)):
        raise RefusedError(
            f"{value[:80]!r} in params is a path or an expression", "send names and numbers, and no paths"
        )


def _infer(arguments: dict[str, Any]) -> None:
    image_name(arguments.get("image", ""))
    try:
        # Upstream takes none for an empty one.
        arguments["params"] = json.dumps(parameters(json.loads(arguments.get("params") or "{}")))
    except RefusedError:
        raise
    except (ValueError, RecursionError) as error:
        raise RefusedError("params is no JSON object", "send an object, such as {}") from error


def _infer_wsi(arguments: dict[str, Any]) -> None:
    image_name(arguments.get("image", ""))
    if (wsi := arguments.get("wsi")) is not None:
        wsi.params = parameters(wsi.params or {})


def _beside(arguments: dict[str, Any]) -> None:
    if arguments.get("run_sync"):
        raise RefusedError(
            "run_sync would keep the server from answering anybody until the task has ended",
            "leave it out; a GET of the same path without the model's name says how far the task is",
        )


CHECKS: tuple[tuple[str, str, tuple[str, ...], Callable[[dict[str, Any]], None]], ...] = (
    ("infer", "run_inference", ("image", "params"), _infer),
    ("wsi_infer", "run_wsi_inference", ("image", "wsi"), _infer_wsi),
    ("train", "run", ("run_sync",), _beside),
    ("train", "run_model", ("run_sync",), _beside),
    ("batch_infer", "run", ("run_sync",), _beside),
    ("session", "create_session", ("uncompress",), lambda _: None),
)
"""Upstream's module and function, its parameters that are looked at, and the look: it may change them."""


def checked(function: Callable[..., Any], check: Callable[[dict[str, Any]], None], refuse: Any) -> Any:
    """Make a function look at its arguments before it does anything.

    Parameters
    ----------
    function:
        Of an endpoint.
    check:
        Raises :class:`RefusedError`, or changes the arguments.
    refuse:
        ``fastapi.HTTPException``.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def looking(*args: Any, **kwargs: Any) -> Any:
        call = signature.bind(*args, **kwargs)
        try:
            check(call.arguments)
            return function(*call.args, **call.kwargs)
        except RefusedError as error:
            raise refuse(400, str(error)) from error
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise refuse(507, FULL_DISK) from error

    return looking


def mount(endpoints: dict[str, Any], sessions: Any, refuse: Any) -> None:
    """Put the checks before upstream's endpoints; calling it twice changes nothing.

    Parameters
    ----------
    endpoints:
        Name of a module of ``monailabel.endpoints`` → the module, for each of :data:`CHECKS`.
    sessions:
        The module ``monailabel.utils.sessions``.
    refuse:
        ``fastapi.HTTPException``.

    Raises
    ------
    RuntimeError
        Upstream has changed, and a check would never be asked.
    """
    if isinstance(sessions.shutil, Shutil):
        return
    if "unpack_archive" not in sessions.Sessions.add_session.__code__.co_names:
        raise RuntimeError("sessions are unpacked otherwise")
    for module, name, needed, _ in CHECKS:
        found = inspect.signature(getattr(endpoints[module], name, lambda: None)).parameters
        if missing := [each for each in needed if each not in found]:
            raise RuntimeError(f"{module}.{name} has no {', '.join(missing)}")
    for module, name, _, check in CHECKS:
        setattr(endpoints[module], name, checked(getattr(endpoints[module], name), check, refuse))
    sessions.shutil = Shutil()
