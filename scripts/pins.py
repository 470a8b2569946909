"""Pins: downloads by URL, sha256 and size, in the defaults of the role that needs them, or in kiln.toml.

A role ``R`` lists them in the variable ``R_pins`` of ``defaults/main.yml``. The role downloads by that
list and checks every byte; this module fills the list and tells when an address serves other bytes.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import Field, TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from kiln import __version__, config, paths
from kiln.errors import KilnError, RefusedError, UsageError
from kiln.manifest import Strict
from kiln.mistakes import suggest
from kiln.slicer import Archives, System
from scripts import yamledit

SCHEMES = ("https", "http", "file")

TIMEOUT_SECONDS = 60.0
"""How long an address may say nothing."""

ATTEMPTS = 3
PAUSE_SECONDS = 2.0
"""Before the second attempt; twice as long before the third."""

_BLOCK = 1 << 20

# Statuses that may be gone a moment later; any other refusal stays one.
_PASSING = (408, 429, 500, 502, 503, 504)

_TROUBLE = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


class Pin(Strict):
    """An entry of a role's list; without a sha256 it is unset, and the role stops on it."""

    name: str = Field(min_length=1, description="name by which the role knows the file")
    url: str = Field(default="", description="where it is downloaded from")
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$", description="of the whole file")
    size: int = Field(default=0, ge=0, description="of the file in bytes")


_PINS = TypeAdapter(list[Pin])


@dataclass(frozen=True)
class Learned:
    """What a download turned out to be.

    Parameters
    ----------
    sha256:
        In hexadecimal.
    size:
        In bytes.
    """

    sha256: str
    size: int


class RoleFile:
    """The defaults of a role, changed in its list of pins and nowhere else.

    Parameters
    ----------
    role:
        Name of a folder under ``ansible/roles``.

    Raises
    ------
    UsageError
        There is no such role, or it has no list of pins.
    KilnError
        Its defaults are no YAML, or the list is not one of pins.
    """

    def __init__(self, role: str) -> None:
        self.path = _defaults(role)
        self.variable = f"{role}_pins"
        if not self.path.is_file():
            raise UsageError(
                f"there is no role {role!r} with pins", suggest(role, roles(), "roles with pins")
            )
        self.text = self.path.read_text()
        try:
            found = YAML(typ="safe").load(self.text)
        except YAMLError as error:
            raise KilnError(f"{self.path} is no YAML: {str(error).splitlines()[0]}", "correct it") from None
        if not isinstance(found, dict) or not isinstance(found.get(self.variable), list):
            hint = f"{suggest(role, roles(), 'roles with pins')}; or add {self.variable}: [] to {self.path}"
            raise UsageError(f"{role} has no list {self.variable}", hint)
        try:
            self.pins = _PINS.validate_python(found[self.variable])
        except ValidationError as error:
            first = error.errors()[0]
            what = f"{self.variable}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
            raise KilnError(what, f"an entry has name, url, sha256 and size; correct {self.path}") from None

    def put(self, pin: Pin) -> None:
        """Write a pin, in the place of one of the same name or at the end.

        Parameters
        ----------
        pin:
            What is written; its name says in whose place.

        Raises
        ------
        KilnError
            The list is written in a way that cannot be edited without touching what is beside it.
        """
        wanted = [each for each in self.pins if each.name != pin.name]
        place = next((at for at, each in enumerate(self.pins) if each.name == pin.name), len(wanted))
        wanted.insert(place, pin)
        new = yamledit.put(self.text, self.variable, place, pin.model_dump())
        try:
            written = _PINS.validate_python(YAML(typ="safe").load(new)[self.variable])
        except (YAMLError, ValidationError, KeyError, TypeError):
            written = []
        if written != wanted:
            raise KilnError(
                f"{self.variable} in {self.path} is written in a way that kiln cannot edit",
                f"write it as a list of entries, a key a line; the pin is {pin.model_dump_json()}",
            )
        _replace(self.path, new)


def _replace(path: Path, text: str) -> None:
    """Replace a file in one step: a reader sees the old or the new one, never half."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".pins-")
    new = Path(name)
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        new.chmod(path.stat().st_mode & 0o777)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _defaults(role: str) -> Path:
    return paths.ROOT / "ansible/roles" / role / "defaults/main.yml"


def roles() -> list[str]:
    """Return the roles that have a list of pins.

    Returns
    -------
    list of str
        Names, sorted.
    """
    return sorted(
        path.parent.parent.name
        for path in (paths.ROOT / "ansible/roles").glob("*/defaults/main.yml")
        if f"\n{path.parent.parent.name}_pins:" in "\n" + path.read_text()
    )


def add(role: str, name: str, url: str | None) -> None:
    """Download a file, and write its URL, sha256 and size into the role's list.

    Parameters
    ----------
    role:
        Role that needs the file.
    name:
        Name by which the role knows it.
    url:
        http, https or file; None means the one that the list has already.

    Raises
    ------
    UsageError
        The role has no pins, the URL is of another kind, or there is none.
    KilnError
        The download failed; nothing was written.
    """
    file = RoleFile(role)
    before = next((pin for pin in file.pins if pin.name == name), None)
    url = url or (before.url if before else None)
    if not url:
        raise UsageError(f"{name!r} has no URL in {file.path}", f"name it: kiln pins add {role} {name} URL")
    learned = learn(url)
    pin = Pin(name=name, url=url, sha256=learned.sha256, size=learned.size)
    print(f"{name}: {learned.size} bytes, sha256 {learned.sha256}")
    if pin == before:
        print(f"unchanged in {file.path}")
        return
    file.put(pin)
    print(f"written to {file.path}")


def print_table(url: str) -> None:
    """Download a file, and print the inline table that pins it in kiln.toml.

    Parameters
    ----------
    url:
        http, https or file.

    Raises
    ------
    UsageError
        The URL is of another kind.
    KilnError
        The download failed.
    """
    learned = learn(url)
    print(f"{{ url = {json.dumps(url)}, sha256 = {json.dumps(learned.sha256)} }}")


def of_images(config_path: Path | None) -> dict[str, list[Pin]]:
    """Return what kiln.toml pins: image → its downloads of 3D Slicer.

    Parameters
    ----------
    config_path:
        kiln.toml, by default the checkout's, which pins nothing where it is not there.

    Raises
    ------
    UsageError
        It cannot be meant.
    """
    found: dict[str, list[Pin]] = {}
    if config_path is None and not config.default_path().exists():
        return found
    for image, settings in config.load(config_path).image.items():
        for system in get_args(System):
            archives: Archives | None = getattr(settings.slicer, system, None)
            for name, pin in (vars(archives) if archives else {}).items():
                found.setdefault(image, []).append(
                    Pin(name=f"{system}.{name}", url=pin.url, sha256=pin.sha256)
                )
    return found


def check(role: str | None = None, config_path: Path | None = None) -> None:
    """Download every pinned file again and compare.

    Parameters
    ----------
    role:
        Only this role; None means every role with pins, and every image of kiln.toml.
    config_path:
        kiln.toml, by default the checkout's.

    Raises
    ------
    RefusedError
        An address serves other bytes, or a pin is unset.
    KilnError
        A download failed: what could not be compared has not passed.
    """
    refused: list[str] = []
    failed: list[str] = []
    count = 0
    asked = {each: RoleFile(each).pins for each in ([role] if role else roles())}
    if role is None:
        asked |= {f"image.{image}": pins for image, pins in of_images(config_path).items()}
    for each, pins in asked.items():
        for pin in pins:
            count += 1
            label = f"{each} {pin.name}"
            try:
                problem = compare(each, pin)
            except KilnError as error:
                failed.append(label)
                print(f"FAILED   {label}: {error.what}")
                continue
            if problem:
                refused.append(label)
            print(f"REFUSED  {label}: {problem}" if problem else f"same     {label}")
    # Other bytes are worse news than an address that did not answer.
    if refused:
        raise RefusedError(
            f"refused: {', '.join(refused)}", "see above; a new pin is learned by: kiln pins add"
        )
    if failed:
        raise KilnError(f"could not be compared: {', '.join(failed)}", "try again when the address answers")
    print(f"{count} pin{'' if count == 1 else 's'} compared")


def compare(role: str, pin: Pin) -> str:
    """Say in which way an address differs from its pin.

    Parameters
    ----------
    role:
        Role that has the pin, for the message.
    pin:
        What was pinned.

    Returns
    -------
    str
        Empty if it does not.

    Raises
    ------
    KilnError
        The download failed.
    """
    if not pin.sha256:
        return f"not set; run: kiln pins add {role} {pin.name}{'' if pin.url else ' URL'}"
    found = learn(pin.url)
    # kiln.toml has no sizes.
    if found.sha256 == pin.sha256 and pin.size in (0, found.size):
        return ""
    return f"pinned {pin.sha256} ({pin.size} bytes), found {found.sha256} ({found.size} bytes) at {pin.url}"


def learn(url: str) -> Learned:
    """Download a file and return what it is; its bytes are not kept.

    Parameters
    ----------
    url:
        http, https or file.

    Returns
    -------
    Learned
        Its sha256, and its size in bytes.

    Raises
    ------
    UsageError
        The URL is of another kind.
    KilnError
        The download failed, or ended early.
    """
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise UsageError(f"{url!r} is no URL: {error}", "write https://…, http://… or file:///…") from None
    if parts.scheme not in SCHEMES or not (parts.netloc or parts.path.startswith("/")):
        raise UsageError(
            f"{url!r} is no URL that can be downloaded", "write https://…, http://… or file:///…"
        )
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(Path(parts.path).name or parts.netloc, total=None)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return _download(url, lambda done, total: progress.update(task, completed=done, total=total))
            except _TROUBLE as error:
                what, passing = _said(error)
            except (OSError, ValueError) as error:
                what, passing = getattr(error, "strerror", None) or str(error), False
            if not passing:
                raise KilnError(f"{url}: {what}", "check the URL by hand")
            if attempt < ATTEMPTS:
                time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
    raise KilnError(f"{url}: {what}, {ATTEMPTS} times", "check the network, then try again")


def _said(error: Exception) -> tuple[str, bool]:
    """Return what a failed attempt said, and whether another one may go better."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}", error.code in _PASSING
    if isinstance(error, urllib.error.URLError):
        reason = error.reason
        return str(getattr(reason, "strerror", None) or reason), not isinstance(reason, FileNotFoundError)
    return str(error) or type(error).__name__, True


def _download(url: str, show: Callable[[int, int | None], object]) -> Learned:
    request = urllib.request.Request(url, headers={"User-Agent": f"kiln/{__version__}"})
    digest, size = hashlib.sha256(), 0
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as stream:
        length = stream.headers.get("Content-Length")
        total = int(length) if length and length.isdigit() else None
        while block := stream.read(_BLOCK):
            digest.update(block)
            size += len(block)
            show(size, total)
    # http.client takes an early end for the end; such a digest would be pinned for good.
    if total is not None and size != total:
        raise ConnectionError(f"ended after {size} of {total} bytes")
    return Learned(digest.hexdigest(), size)
