"""Write, read and check a studies folder without a server: ``python -m kiln_store COMMAND STUDIES …``.

What was acknowledged and what is found are printed as lines of JSON, so that a program on another machine
can compare them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import earlier
from .errors import StoreError
from .index import FILE, Index
from .store import Store, read_file, studies
from .tree import Tree


def say(**fields: Any) -> None:
    """Print a line of JSON at once: what was said was done, also by a program that is killed next."""
    print(json.dumps(fields), flush=True)


def number(words: bytes) -> str:
    """Return a checksum as the index has it."""
    return f"SHA256:{hashlib.sha256(words).hexdigest()}"


def images(store: Store, count: int) -> None:
    """Add images ``image-0`` and so on."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "image.nii.gz")
        for place in range(count):
            source.write_bytes(f"image {place}\n".encode())
            store.add_image(f"image-{place}", source, ".nii.gz", {})
            say(image=f"image-{place}")


def save(store: Store, options: argparse.Namespace) -> None:
    """Save labels with something noted of each, and say which were acknowledged."""
    chance = random.Random(f"{options.seed} {options.writer}")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "label.nii.gz")
        for place in range(options.first, options.first + options.count):
            image = f"image-{place % options.images}"
            body = f"{options.writer} {place} ".encode() + chance.randbytes(options.size)
            source.write_bytes(body)
            noted = {"writer": options.writer, "place": place}
            start = time.monotonic()
            new = store.save_label(image, options.tag or options.writer, source, ".nii.gz", noted)
            say(
                image=image,
                tag=options.tag or options.writer,
                **noted,
                version=new["info"]["kiln_version"],
                checksum=new["info"]["checksum"],
                seconds=round(time.monotonic() - start, 4),
            )
            time.sleep(options.pause)


def labels(store: Store, index: Index) -> Iterator[dict[str, Any]]:
    """Yield every label and every earlier version that there is, and what is wrong with it."""
    for image, value in index.objects.items():
        for tag, label in value["labels"].items():
            path = index.label_file(image, tag)
            yield _label(store, image, tag, path, label["info"], True)
    with Tree(store.root) as tree:
        for version in earlier.versions(tree):
            info = earlier.entry(tree, version).get("info", {})
            yield _label(store, version.image, version.tag, version.path, info, False)


def _label(
    store: Store, image: str, tag: str, path: str, info: dict[str, Any], current: bool
) -> dict[str, Any]:
    try:
        found = number(read_file(store.root / path))
    except FileNotFoundError:
        found = ""
    wrong = "" if found else "gone"
    if found and info.get("checksum", found) != found:
        wrong = "not the file that was saved"
    return {
        "image": image, "tag": tag, "path": path, "current": current, "version": info.get("kiln_version", ""),
        "checksum": found, "info": info, "wrong": wrong,
    }  # fmt: skip


def restore(store: Store, path: str) -> None:
    """Save an earlier version of a label once more; what it replaces becomes an earlier version itself."""
    with Tree(store.root) as tree:
        version = next((one for one in earlier.versions(tree) if one.path == path), None)
        if version is None:
            raise StoreError(f"{path!r} is no earlier version of a label", "take a path that `list` prints")
        noted = earlier.entry(tree, version).get("info", {})
    new = store.save_label(version.image, version.tag, store.root / path, version.ext, noted)
    say(image=version.image, tag=version.tag, info=new["info"])


def verify(store: Store, acknowledged: list[Path]) -> int:
    """Compare what is there with what was acknowledged; return the exit code."""
    # What a killed writer had begun is ended by whoever comes next.
    store.change(lambda index: index)
    found = list(labels(store, store.index()))
    there = {(row["image"], row["tag"], row["version"]): row for row in found}
    asked = [json.loads(line) for path in acknowledged for line in path.read_text().splitlines()]
    lost = []
    for row in asked:
        label = there.get((row["image"], row["tag"], row["version"]))
        noted = label["info"] if label else {}
        if not label or label["checksum"] != row["checksum"]:
            lost.append({**row, "why": "the label"})
        elif (noted.get("writer"), noted.get("place")) != (row["writer"], row["place"]):
            lost.append({**row, "why": "what was noted of it"})
    wrong = [row for row in found if row["wrong"]]
    say(
        acknowledged=len(asked),
        current=sum(row["current"] for row in found),
        earlier=sum(not row["current"] for row in found),
        lost=lost,
        wrong=wrong,
    )
    return 1 if lost or wrong else 0


def watch(store: Store, seconds: float) -> int:
    """Read what others write, until the time is over or SIGTERM; return 1 where something was not whole.

    A label that is replaced between its entry and its file has another checksum: it is looked at again, and
    must be the file of the entry that the index has then.
    """
    looks, wrong = 0, []
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stop.is_set():
        looks += 1
        try:
            raw = read_file(store.root / FILE)
        except FileNotFoundError:
            continue
        try:
            index = Index.parse(raw)
        except StoreError as error:
            wrong.append({"what": error.what, "bytes": len(raw)})
            continue
        for row in labels(store, index):
            again = time.monotonic() + 2
            while row["current"] and row["wrong"] and time.monotonic() < again:
                try:
                    index = store.index()
                except StoreError:
                    break  # the next look says so
                entry = index.label(row["image"], row["tag"])
                if entry is None:
                    row["wrong"] = ""
                    break
                path = index.label_file(row["image"], row["tag"])
                row = _label(store, row["image"], row["tag"], path, entry["info"], True)
            if row["wrong"]:
                wrong.append(row)
    say(looks=looks, wrong=wrong)
    return 1 if wrong else 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(prog="python -m kiln_store", description=__doc__)
    commands = found.add_subparsers(dest="command", required=True)
    rows = {
        "images": "add images that labels can be saved for",
        "save": "save labels, and print those that were acknowledged",
        "list": "print every label and every earlier version",
        "restore": "save an earlier version of a label once more",
        "verify": "compare what is there with what was acknowledged",
        "watch": "read what others write, and find what is not whole",
        "sweep": "remove earlier versions that are old enough, and what killed writers left",
    }
    for name, text in rows.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("studies", type=Path, help="the studies folder")
        if name == "images":
            command.add_argument("count", type=int, help="how many")
        if name == "save":
            command.add_argument("writer", help="a name for this writer, which is noted of each label")
            command.add_argument("count", type=int, help="how many labels")
            command.add_argument("--first", type=int, default=0, help="number of the first one")
            command.add_argument("--images", type=int, default=10, help="images to go round")
            command.add_argument(
                "--tag", default="", help="tag of the labels; a tag of the writer's by default"
            )
            command.add_argument("--size", type=int, default=100_000, help="bytes of a label")
            command.add_argument("--pause", type=float, default=0.0, help="seconds between two saves")
            command.add_argument("--seed", type=int, default=20240101, help="seed of the labels' bytes")
        if name == "restore":
            command.add_argument("path", help="the version, as `list` prints it")
        if name == "verify":
            command.add_argument("acknowledged", type=Path, nargs="*", help="what `save` printed")
        if name == "watch":
            command.add_argument("seconds", type=float, help="how long")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit code."""
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        if not options.studies.is_dir():
            raise StoreError(f"{options.studies} is no folder", "make it, or mount the share there first")
        store = studies(options.studies)
        if options.command == "images":
            images(store, options.count)
        elif options.command == "save":
            save(store, options)
        elif options.command == "list":
            for row in labels(store, store.index()):
                say(**row)
        elif options.command == "restore":
            restore(store, options.path)
        elif options.command == "verify":
            return verify(store, options.acknowledged)
        elif options.command == "watch":
            return watch(store, options.seconds)
        else:
            store.sweep()
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
