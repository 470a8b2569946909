"""What a finished root is, read from its files: nothing here starts a program or trusts the inputs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from kiln import compat, slicer
from kiln.errors import KilnError
from kiln.manifest import Facts
from scripts import distributions, dpkg, gpu

MODULES = "usr/lib/modules"
WEIGHTS = "etc/kiln/weights.json"
SLICER = slicer.FACTS
SETTINGS = "usr/share/kiln/settings"

_Origin = TypeVar("_Origin", bound=str)

_BAKE_AGAIN = "a role left the root unfinished; read the bake's log and bake again"


def read(root: Path, roles: Sequence[str]) -> Facts:
    """Read the facts of a root.

    Parameters
    ----------
    root:
        The sealed root folder.
    roles:
        Roles of the playbook, in order: the one fact that the root does not hold.

    Returns
    -------
    Facts
        For the manifest.

    Raises
    ------
    KilnError
        The root contradicts itself or is unfinished: no kernel or more than one, a half-installed package, a
        distribution in two versions, weights or a 3D Slicer of an unknown origin.
    """
    packages, python = _installed(root)
    release = kernel(root)
    found = _stack(root, release, packages, python)
    return Facts(
        kernel=release,
        driver=found.driver,
        cuda=found.cuda,
        torch=found.torch,
        architectures=list(found.architectures),
        monai_label=python.get("monailabel"),
        python=_python(packages),
        debian=debian_version(root),
        roles=list(roles),
        packages=packages,
        distributions=python,
        settings_schemas=_settings_schemas(root / SETTINGS),
        weights=_origin(root / WEIGHTS, "origin", ("pinned", "random", "test")),
        slicer=_origin(root / SLICER, "kind", ("real", "stand-in")),
    )


def stack(root: Path) -> compat.Stack:
    """Read what must go together for a GPU to work, and nothing else of a root.

    Parameters
    ----------
    root:
        Root folder.

    Returns
    -------
    Stack
        For :func:`kiln.compat.judge`. Its kernel is None where there are several or none: the judge says so.

    Raises
    ------
    KilnError
        A file of the driver or of torch cannot be read.
    """
    try:
        release = kernel(root)
    except KilnError:
        release = None
    return _stack(root, release, *_installed(root))


def _installed(root: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Debian packages and Python distributions of a root, each name → version."""
    packages = {package.name: package.version for package in dpkg.installed(root)}
    return packages, {one.name: one.version for one in distributions.installed(root)}


def _stack(root: Path, release: str | None, packages: dict[str, str], python: dict[str, str]) -> compat.Stack:
    torch, cuda = torch_build(root) if "torch" in python else (None, None)
    code = tuple(gpu.architectures(root)) if cuda else ()
    return compat.Stack(release, gpu.driver(root, packages), torch, cuda, code)


def kernel(root: Path) -> str:
    """Release of the one kernel that a root has.

    Parameters
    ----------
    root:
        Root folder.

    Returns
    -------
    str
        Such as ``6.1.0-40-cloud-amd64``.

    Raises
    ------
    KilnError
        There is none, there are several, or its image is not in ``/boot``.
    """
    releases = sorted(path.name for path in (root / MODULES).glob("*") if path.is_dir())
    match releases:
        case []:
            raise KilnError("the root has no kernel", "let the role base install one")
        case [release]:
            pass
        case _:
            raise KilnError(
                f"the root has {len(releases)} kernels: {', '.join(releases)}",
                "which one boots must not be a guess: remove all but one (apt-get autoremove) in a role",
            )
    if not (root / "boot" / f"vmlinuz-{release}").is_file():
        raise KilnError(f"/boot/vmlinuz-{release} is missing, its modules are there", _BAKE_AGAIN)
    return release


def debian_version(root: Path) -> str:
    """Content of ``/etc/debian_version``, such as ``12.12``.

    Parameters
    ----------
    root:
        Root folder.

    Returns
    -------
    str
        Without the end of the line.

    Raises
    ------
    KilnError
        The root has none.
    """
    path = root / "etc/debian_version"
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise KilnError("the root has no /etc/debian_version", _BAKE_AGAIN) from None


def _python(packages: dict[str, str]) -> str:
    """Upstream version of the distribution's python3: ``3.11.2-1+b1`` is 3.11.2."""
    if "python3" not in packages:
        raise KilnError("the root has no package python3", "the base root installs it: bake again")
    return packages["python3"].split(":")[-1].rsplit("-", 1)[0]


def torch_build(root: Path) -> tuple[str, str | None]:
    """Torch's own version and the CUDA it was built for: its distribution on PyPI names neither.

    Parameters
    ----------
    root:
        Root folder with torch in it.

    Returns
    -------
    tuple of (str, str or None)
        Such as ``2.10.0+cu128`` and ``12.8``.

    Raises
    ------
    KilnError
        Torch's version module is missing or names no version.
    """
    for folder in distributions.site_packages(root):
        path = folder / "torch/version.py"
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            version = re.search(r"^__version__\s*(?::.*?)?=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
            cuda = re.search(r"^cuda\s*(?::.*?)?=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
            if version is None:
                raise KilnError(f"{path} names no version", _BAKE_AGAIN)
            return version[1], cuda[1] if cuda else None
    raise KilnError("torch is installed, and its torch/version.py is missing", _BAKE_AGAIN)


def _settings_schemas(folder: Path) -> list[int]:
    """Numbers of the settings documents that the image reads: one file ``<number>.json`` each."""
    names = [path.stem for path in folder.glob("*.json")]
    if strange := [name for name in names if not name.isdecimal()]:
        raise KilnError(
            f"{folder}/{strange[0]}.json is not named by a schema's number", "name it <number>.json"
        )
    return sorted(int(name) for name in names)


def _origin(path: Path, key: str, known: tuple[_Origin, ...]) -> _Origin | None:
    """What a role wrote about the origin of what it installed; None where it installed nothing."""
    if not path.exists():
        return None
    try:
        origin = json.loads(path.read_text(encoding="utf-8"))[key]
    except (ValueError, TypeError, KeyError):
        raise KilnError(f"{path} does not name an origin", _BAKE_AGAIN) from None
    found = next((each for each in known if each == origin), None)
    if found is None:
        raise KilnError(
            f"{path}: unknown origin {origin!r}",
            f"{', '.join(known[:-1])} or {known[-1]} is what the contract knows",
        )
    return found
