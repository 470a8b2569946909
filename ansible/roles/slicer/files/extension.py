"""Run by 3D Slicer without a window (--python-script): installs an extension from its archive, offline.

Slicer's own manager takes an archive for any revision, and notes it as one for its own: it is looked at here.
"""

import argparse
import json
import re
import sys
import tarfile
import zipfile
from pathlib import Path

import slicer


class RefusedError(Exception):
    """What is wrong, and what to do."""


def names(archive):
    """Return the paths in an archive."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            return packed.namelist()
    try:
        with tarfile.open(archive) as packed:
            return packed.getnames()
    except (tarfile.TarError, OSError) as error:
        raise RefusedError(f"{archive} is no archive: {error}", "name the extension's own") from None


def built_for(archive, wanted):
    """Return the folder that an archive has everything in; refuse one that was built for another Slicer."""
    listed = names(archive)
    tops = {name.lstrip("./").split("/")[0] for name in listed} - {""}
    top = min(tops, default="")
    begins = f"{wanted.revision}-{slicer.app.os}-{slicer.app.arch}-{wanted.name}-"
    if len(tops) != 1 or not top.startswith(begins):
        raise RefusedError(
            f"the extension is {top or 'empty'}, and this Slicer takes {begins}…",
            f"name the archive of {wanted.name} that was built for revision {wanted.revision}",
        )
    library = f"{top}/lib/Slicer-{'.'.join(wanted.version.split('.')[:2])}/"
    if not any(name.lstrip("./").startswith(library) for name in listed):
        raise RefusedError(f"{top} has no {library}", f"name the one for Slicer {wanted.version}")
    return top


def install(wanted):
    """Install the extension; return what is noted of it."""
    app = slicer.app
    if str(app.revision) != wanted.revision or not app.applicationVersion.startswith(wanted.version):
        raise RefusedError(
            f"this is Slicer {app.applicationVersion} of revision {app.revision}",
            f"name the archive of Slicer {wanted.version}, revision {wanted.revision}",
        )
    top = built_for(wanted.archive, wanted)
    manager = app.extensionsManagerModel()
    manager.interactive = False
    # Without what it depends on, which would be fetched; and waiting until all of it is there.
    if not manager.installExtension(wanted.archive, False, True):
        raise RefusedError(f"Slicer does not take {top}", "its own message is above this one")
    found = [Path(path) / f"{wanted.name}.py" for path in manager.extensionModulePaths(wanted.name)]
    modules = [path for path in found if path.is_file()]
    if not manager.isExtensionInstalled(wanted.name) or not modules:
        raise RefusedError(f"{top} has no module {wanted.name}", "name the extension's own archive")
    module = modules[0]
    asked = re.findall(r"resourcePath\(\s*[\"']([^\"']+)[\"']", module.read_text(encoding="utf-8"))
    missing = sorted({name for name in asked if not (module.parent / "Resources" / name).is_file()})
    return {
        "installed": True,
        "name": wanted.name,
        "revision": wanted.revision,
        "archive": top,
        "path": str(module.parent),
        "missing": missing,
    }


def main():
    """Install, and write a report; return the exit code."""
    parser = argparse.ArgumentParser()
    for argument in ("archive", "report", "name", "version", "revision"):
        parser.add_argument(argument)
    wanted = parser.parse_args()
    try:
        report = install(wanted)
    except RefusedError as error:
        what, fix = error.args
        report = {"installed": False, "problem": f"{what}\n  fix: {fix}"}
        print(f"error: {report['problem']}", file=sys.stderr)
    except Exception as error:
        report = {"installed": False, "problem": f"{error!r}\n  fix: see what Slicer says above"}
        print(f"error: {report['problem']}", file=sys.stderr)
    Path(wanted.report).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if report["installed"] else 1


sys.exit(main())
