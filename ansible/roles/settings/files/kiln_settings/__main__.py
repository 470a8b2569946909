"""``kiln-settings COMMAND``: the unit calls ``apply``; the others are for whoever looks."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import document, hand, render
from .places import STORE, Image, Places, image
from .store import DOCUMENT, Store, write
from .trouble import Problem, TroubleError

MEANS = {
    "defaults": "there is no document: the image's own settings count",
    "applied": "the document counts",
    "kept": "the document was refused: the one of before counts",
    "refused": "the document was refused and no other counts: the server does not start",
}
"""State → what it means."""

GONE = Problem(
    "",
    "the document is gone and was there before",
    "write it again, or go back to the image's own settings by: kiln-settings forget",
)


def _say(level: int, line: str) -> None:
    """A line for the journal and the console, or for a terminal."""
    print(line if sys.stderr.isatty() else f"<{level}>{line}", file=sys.stderr, flush=True)


def _tell(problems: Sequence[Problem]) -> None:
    """The first problem in two lines, and how many more there are."""
    first, *others = problems
    more = f" (and {len(others)} more: kiln-settings check)" if others else ""
    _say(3, f"error: settings: {first}{more}")
    _say(3, f"  fix: {first.do}")


def _report(
    places: Places, state: str, problems: Sequence[Problem] = (), doubts: Sequence[Problem] = ()
) -> None:
    """Say how it stands in a file, then let the units start or not."""
    body: dict[str, Any] = {"state": state, "means": MEANS[state]}
    for name, found in {"problems": problems, "warnings": doubts}.items():
        body[name] = [{"key": each.key, "what": str(each), "do": each.do} for each in found]
    body["time"] = datetime.now(UTC).isoformat(timespec="seconds")
    write(places.status, json.dumps(body, indent=1) + "\n")
    if state == "refused":
        places.ready.unlink(missing_ok=True)
    else:
        write(places.ready, "")


def _link_efs(places: Places) -> None:
    """Have kiln-efs and its generator look into the generation that counts, if it has an efs.env."""
    if places.efs.is_symlink():
        return
    places.efs.symlink_to(f"{STORE}/current/efs.env")


def _take_up(places: Places, files: dict[str, str], found: Image) -> None:
    """Have systemd make the units of EFS anew, where those that it has are older than the settings.

    Its generator ran before user data was there. A look at the times, since a run that was killed after the
    settings counted must be made up for.
    """
    made = places.at("/run/systemd/generator/kiln-efs-server.env")
    wanted = "efs.env" in files
    if not places.at("/run/systemd/system").is_dir() or not (wanted or made.exists()):
        return
    link = Store(places.store).link
    if wanted and made.exists() and made.stat().st_mtime_ns > link.lstat().st_mtime_ns:
        return
    subprocess.run(["systemctl", "daemon-reload"], check=True, timeout=60)
    if wanted:
        # The mount wants the server, whose start then waits for it. Nothing here does.
        start = ["systemctl", "start", "--no-block", "kiln-efs.service", found.mount_unit]
        subprocess.run(start, check=True, timeout=60)


def _judged(places: Places, path: Path, found: Image) -> dict[str, str] | None:
    """Files of a document, None where there is none.

    Raises
    ------
    TroubleError
        It is refused.
    """
    text = document.text(path)
    if text is None:
        return None
    parsed = document.parse(text)
    document.judge(parsed, found, places)
    return {**render.files(parsed, found), DOCUMENT: text}


def _doubts(places: Places, files: dict[str, str], found: Image) -> list[Problem]:
    """What is hardly meant by a document that counts, or would."""
    written = files.get(DOCUMENT)
    return list(document.doubts(document.parse(written), found, places)) if written is not None else []


def _make_count(places: Places, store: Store, found: Image, before: dict[str, str] | None) -> bool:
    """Make the document count; say whether there is one.

    Raises
    ------
    TroubleError
        It is refused, or gone, or cannot be written.
    """
    files = _judged(places, places.document, found)
    if files is None:
        if before is not None:
            raise TroubleError([GONE])
        return False
    try:
        if "efs.env" in files:
            _link_efs(places)
        store.put(files)
    except OSError as error:
        words = f"the files of the units cannot be written: {error.strerror}"
        raise TroubleError(
            [Problem("", words, f"see to {STORE} and /etc/kiln, then restart kiln-settings")]
        ) from None
    return True


def apply(places: Places) -> int:
    """Make the document count, or say why not; return the exit code."""
    try:
        return _apply(places)
    except (OSError, ValueError) as error:
        # Not the document's fault: a file of the image that cannot be read, a disk that is full.
        words = f"the document could not be judged: {ascii(str(error))[1:-1][:200]}"
        return _refuse(places, "refused", [Problem("", words, "mend that, then restart kiln-settings")])


def _apply(places: Places) -> int:
    found, store = image(places), Store(places.store)
    with store.held():
        before = store.current()
        try:
            state = "applied" if _make_count(places, store, found, before) else "defaults"
            hand.over(places, store.current() or {})
        except TroubleError as trouble:
            # Users go on logging in by the document of before, and by the key that they have.
            hand.over(places, before or {})
            return _refuse(places, "refused" if before is None else "kept", trouble.problems)
        try:
            _take_up(places, store.current() or {}, found)
        except (OSError, subprocess.SubprocessError) as error:
            # With units of before the server would write its studies to another place.
            return _refuse(
                places, "refused", [Problem("efs", f"was not taken up by systemd: {error}", "reboot")]
            )
    doubts = _doubts(places, store.current() or {}, found)
    for each in doubts:
        _say(4, f"warning: settings: {each}")
        _say(4, f"  fix: {each.do}")
    _say(6, f"settings: {MEANS[state]}")
    _report(places, state, doubts=doubts)
    return 0


def _refuse(places: Places, state: str, problems: Sequence[Problem]) -> int:
    """Say why a document does not count; return the exit code."""
    _tell(problems)
    _say(3, f"settings: {MEANS[state]}")
    _report(places, state, problems)
    return 1


def check(places: Places, path: Path) -> int:
    """Judge a document and write nothing; return the exit code."""
    found = image(places)
    try:
        files = _judged(places, path, found)
    except TroubleError as trouble:
        for problem in trouble.problems:
            print(f"error: settings: {problem}\n  fix: {problem.do}", file=sys.stderr)
        return 1
    if files is None:
        print(f"error: {path} is not there\n  fix: name the document", file=sys.stderr)
        return 1
    for each in _doubts(places, files, found):
        print(f"warning: settings: {each}\n  fix: {each.do}", file=sys.stderr)
    print(f"{path} would count; it makes {', '.join(sorted(set(files) - {DOCUMENT})) or 'nothing'}")
    return 0


def status(places: Places) -> int:
    """Say how it stands; return the exit code."""
    try:
        said = json.loads(places.status.read_text(encoding="utf-8"))
    except OSError:
        print(
            "error: kiln-settings.service has not run\n  fix: systemctl status kiln-settings", file=sys.stderr
        )
        return 1
    print(f"state:  {said['state']} since {said['time']}\nmeans:  {said['means']}")
    for label, found in (("reason:", said["problems"]), ("warning:", said["warnings"])):
        for each in found:
            print(f"{label} {each['what']}\ndo:     {each['do']}")
    return 0


def forget(places: Places) -> int:
    """Let the image's own settings count again; return the exit code."""
    if places.document.exists():
        print(f"error: {places.document} is there\n  fix: remove it first", file=sys.stderr)
        return 1
    store = Store(places.store)
    with store.held():
        store.forget()
    return apply(places)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns
    -------
    int
        0 when it went well, 1 where a document was refused, 2 for wrong use.
    """
    parser = argparse.ArgumentParser(prog="kiln-settings", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("/"), help="root folder of another machine")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, words in {
        "apply": "make the document count",
        "status": "say how it stands",
        "forget": "without a document, go back to the image's own settings",
    }.items():
        commands.add_parser(name, help=words)
    checked = commands.add_parser("check", help="judge a document and write nothing")
    checked.add_argument("document", type=Path, nargs="?", help="/etc/kiln/settings.toml if not named")
    options = parser.parse_args(arguments)
    places = Places(options.root)
    if options.command == "check":
        return check(places, options.document or places.document)
    return {"apply": apply, "status": status, "forget": forget}[options.command](places)


if __name__ == "__main__":
    sys.exit(main())
