"""Archives that stand for 3D Slicer and for its extension: ``python -m tests.slicer.standin FOLDER``.

The extension's archive has the real module MONAILabel, out of the locked monailabel wheel. Both have the
same bytes whenever they are made, so that a bake's digest may cover them.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib.metadata
import io
import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kiln import paths

FIXTURE = paths.ROOT / "tests/fixtures/slicer/home"

VERSION = "5.10.0"
REVISION = "34045"
NAME = "MONAILabel"

PLUGIN = "monailabel/plugins/slicer"
"""Where the wheel has the extension's source."""

EPOCH = 1_732_492_800
"""Time of everything in the archives: the day of the wheel."""


@dataclass(frozen=True)
class Made:
    """An archive.

    Parameters
    ----------
    path:
        The file.
    sha256:
        Its digest, in hexadecimal.
    """

    path: Path
    sha256: str

    @property
    def url(self) -> str:
        """Its address on this machine."""
        return self.path.resolve().as_uri()


def plugin() -> Path:
    """Folder of the extension's source, as the locked wheel brings it.

    Raises
    ------
    AssertionError
        The wheel is not installed, or has no such folder.
    """
    files = importlib.metadata.distribution("monailabel").files or []
    # uv leaves the wheel's misnamed data folder where it is; pip moves what is in it.
    for file in files:
        if str(file).endswith(f"{PLUGIN}/CMakeLists.txt"):
            return Path(str(file.locate())).parent
    raise AssertionError(f"monailabel brings no {PLUGIN}")


def described(cmake: str) -> dict[str, str]:
    """Return what the extension's build says of it, such as its category, by the lower-case name."""
    found = re.findall(r'^set\(EXTENSION_(\w+) "(.*?)"\)', cmake, re.MULTILINE)
    return {name.lower(): value for name, value in found}


def built(cmake: str) -> list[str]:
    """Return the files that a module's build installs: what its lists leave out is in no archive.

    Parameters
    ----------
    cmake:
        Its CMakeLists.txt.
    """
    (module,) = re.findall(r"^set\(MODULE_NAME (\w+)\)", cmake, re.MULTILINE)
    lists = re.findall(
        r"^set\(MODULE_PYTHON_(?:SCRIPTS|RESOURCES)\n(.*?)\)$", cmake, re.MULTILINE | re.DOTALL
    )
    names = [name.replace("${MODULE_NAME}", module) for text in lists for name in text.split()]
    return [name if Path(name).suffix else f"{name}.py" for name in names]


def short(version: str) -> str:
    """``5.10`` of 5.10.0, as folders of Slicer have it."""
    return ".".join(version.split(".")[:2])


def packed(path: Path, top: str, files: Mapping[str, tuple[bytes, int]]) -> Made:
    """Write an archive of files, each by its name below the folder ``top``, with its mode."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        folders = {str(parent) for name in files for parent in Path(top, name).parents} - {"."}
        for folder in sorted(folders):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, EPOCH
            tar.addfile(entry)
        for name, (body, mode) in sorted(files.items()):
            entry = tarfile.TarInfo(f"{top}/{name}")
            entry.size, entry.mode, entry.mtime = len(body), mode, EPOCH
            tar.addfile(entry, io.BytesIO(body))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(made.getvalue(), mtime=0))
    return Made(path, hashlib.sha256(path.read_bytes()).hexdigest())


def archive(folder: Path, version: str = VERSION, revision: str = REVISION) -> Made:
    """Make the archive that stands for Slicer's.

    Parameters
    ----------
    folder:
        Where it is written.
    version, revision:
        What it is of.

    Returns
    -------
    Made
        ``Slicer-<version>-linux-amd64.tar.gz``.
    """
    files = {}
    for path in sorted(FIXTURE.rglob("*")):
        if not path.is_file() or "__pycache__" in path.parts:
            continue
        name = str(path.relative_to(FIXTURE)).replace("Slicer-X.Y", f"Slicer-{short(version)}")
        body = (
            path.read_bytes()
            .replace(b"@version@", version.encode())
            .replace(b"@revision@", revision.encode())
        )
        files[name] = (body, 0o755 if path.stat().st_mode & 0o100 else 0o644)
    name = f"Slicer-{version}-linux-amd64"
    return packed(folder / f"{name}.tar.gz", name, files)


def extension(folder: Path, version: str = VERSION, revision: str = REVISION) -> Made:
    """Make the archive of the extension, as its server would give it for a revision of Slicer.

    Parameters
    ----------
    folder:
        Where it is written.
    version, revision:
        Of the Slicer that it is for.

    Returns
    -------
    Made
        ``<revision>-linux-amd64-MONAILabel-…tar.gz``.
    """
    source, share = plugin(), f"share/Slicer-{short(version)}"
    modules = f"lib/Slicer-{short(version)}/qt-scripted-modules"
    files = {}
    for cmake in sorted(source.glob("*/CMakeLists.txt")):
        for name in built(cmake.read_text(encoding="utf-8")):
            files[f"{modules}/{name}"] = ((cmake.parent / name).read_bytes(), 0o644)
    about = described((source / "CMakeLists.txt").read_text(encoding="utf-8"))
    lines = ["scm git", "scmurl NA", "scmrevision NA", "build_subdirectory .", "status "]
    lines += [f"{name} {about[name]}" for name in ("depends", "homepage", "category", "description")]
    files[f"{share}/{NAME}.s4ext"] = ("\n".join(lines).encode() + b"\n", 0o644)
    name = f"{revision}-linux-amd64-{NAME}-git0000000-2024-11-25"
    return packed(folder / f"{name}.tar.gz", name, files)


def variables(slicer: Made, of_slicer: Made, folder: str = "") -> dict[str, str]:
    """Return the role's variables for a pair of archives.

    Parameters
    ----------
    slicer, of_slicer:
        Of Slicer and of the extension.
    folder:
        Where the machine that is provisioned sees both; empty where it is this one.
    """
    address = (lambda made: f"file://{folder}/{made.path.name}") if folder else (lambda made: made.url)
    version, revision = slicer.path.name.split("-")[1], of_slicer.path.name.split("-")[0]
    return {
        "slicer_kind": "stand-in",
        "slicer_version": version,
        "slicer_revision": revision,
        "slicer_url": address(slicer),
        "slicer_sha256": slicer.sha256,
        "slicer_extension_url": address(of_slicer),
        "slicer_extension_sha256": of_slicer.sha256,
    }


def main() -> None:
    """Write both archives into a folder, and print what they are as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.slicer.standin")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--version", default=VERSION)
    parser.add_argument("--revision", default=REVISION)
    said = parser.parse_args()
    slicer = archive(said.folder, said.version, said.revision)
    of_slicer = extension(said.folder, said.version, said.revision)
    made = {"version": said.version, "revision": said.revision}
    print(json.dumps({**made, "slicer": slicer.path.name, "extension": of_slicer.path.name}))


if __name__ == "__main__":
    main()
