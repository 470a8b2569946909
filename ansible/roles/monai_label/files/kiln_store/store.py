"""A studies folder that any number of servers share: no label that was saved is lost, whichever of them dies.

The index on the share is the only truth, and a server's memory a copy of it that only answers questions. A
change is a function of an index: under the lock the index is read anew, the function is applied, and the
result replaces the file at once. So no server brings back what a peer removed, or loses what a peer added,
and of two that save labels of different tags of an image both stay. Two that save the same tag replace each
other, as one server's saves do; the replaced label is kept for some days (``earlier``).

The order of a save, each step durable before the next begins:

1. the label is copied beside its place, under a name that nobody takes for a label, without the lock;
2. under the lock, a label that it replaces gets a second name among the earlier versions;
3. the new index is written beside the old one, and the record of what is to be moved in the lock file, both
   made durable at once: a record counts only beside the index whose digest it names;
4. the label is moved to its place, then the index to its own, and the names in both folders are made durable
   at once; only then does the save return.

A kill before 3 is complete leaves the old label and the old index, and after it the next holder of the lock
ends the rest: the new label and the new index. So it does where a power cut has kept one of the two moves of
4 alone. A reader takes no lock. It sees an index that is whole, and files that are whole, for nothing is
written in its place. Within 4 it may see a new label with what was known of the old one; only that, but for
a power cut.

What is left of killed writers (``.kiln-*.part``) is removed after a day.
"""

from __future__ import annotations

import fnmatch
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import uuid4

from . import earlier, names, scan
from .errors import MissingError, StoreError
from .index import FILE, Entry, Index, digest, entry, merged
from .lock import WAIT, Held, Lock, Record, check_mount
from .tree import OWN, PART, Tree, again, put

logger = logging.getLogger(__name__)

EXTENSIONS = ("*.nii.gz", "*.nii", "*.nrrd", "*.jpg", "*.png", "*.tif", "*.svs", "*.xml")
"""Files that are studies or labels, as upstream's settings have them."""

LOOKS = (0.0, 0.01, 0.05, 0.2, 0.5)
"""Pauses in seconds before each look at an index that is not the one that the record names."""

LEFT_OVER = 86400.0
"""Seconds after which a part is one of a writer that is gone."""

SWEEP = 3600.0
"""Seconds between two sweeps of a process."""

Moves = list[list[str]]


def folder(path: str) -> str:
    """Folder of a path that is relative to the studies folder."""
    return path.rpartition("/")[0]


def fresh(move: list[str]) -> bool:
    """Whether a move is one of a new file to its place. Its first name is used once: while it is there, the
    move is still to be made."""
    return move[0].rpartition("/")[2].startswith(PART)


Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def retried(
    method: Callable[Concatenate[Store, Arguments], Answer],
) -> Callable[Concatenate[Store, Arguments], Answer]:
    """Make a change one that begins anew where a file handle has gone stale.

    Had it come as far as its record, the next attempt ends it first. A label is then saved twice, and the
    first of the two kept as an earlier version.
    """

    @wraps(method)
    def attempt(self: Store, /, *arguments: Arguments.args, **options: Arguments.kwargs) -> Answer:
        return again(lambda: method(self, *arguments, **options))

    return attempt


class Store:
    """The studies folder of any number of servers. Threads may share one.

    Parameters
    ----------
    root:
        The folder. It is made where it is not there.
    extensions:
        Patterns of files that are images and labels.
    days:
        Days that a replaced or removed label is kept, 0 for not at all.
    wait:
        Seconds that a change waits for the lock.
    new:
        Fields of an index that is made anew.

    Raises
    ------
    StoreError
        It is mounted so that no lock excludes another machine.
    """

    def __init__(
        self,
        root: Path,
        extensions: Iterable[str] = EXTENSIONS,
        *,
        days: float = earlier.DAYS,
        wait: float = WAIT,
        new: Mapping[str, Any] | None = None,
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        check_mount(root)
        self.root = root
        self.extensions = tuple(extensions)
        self.days = days
        self.new = dict(new or {})
        self.lock = Lock(root, wait)
        self._index: Index | None = None
        self._read = 0.0
        self._memory = threading.Lock()
        self._swept = 0.0

    # Reading

    def index(self, age: float = 0.0) -> Index:
        """Return the index.

        Parameters
        ----------
        age:
            Seconds that it may be old. It is read anew all the same where this process has not read it yet.

        Raises
        ------
        StoreError
            It is damaged.
        """
        with self._memory:
            at, known = self._read, self._index
        if known is not None and time.monotonic() - at < age:
            return known
        for pause in LOOKS:
            time.sleep(pause)
            start = time.monotonic()
            with Tree(self.root) as tree:
                raw = tree.read(FILE)
            try:
                return self._remember(raw, start)
            except StoreError:
                # A stock server writes it in its place: what is half written now is whole in a moment.
                if pause == LOOKS[-1]:
                    raise
        raise AssertionError("unreachable")

    def _remember(self, raw: bytes | None, at: float) -> Index:
        """Return the index of a file that was read at some time, and keep it if no newer one is known."""
        known = self._index
        if known is None or known.raw is None or known.raw != raw:
            known = Index.parse(raw, self.new, known)
        self._know(known, at)
        return known

    def _know(self, index: Index, at: float) -> None:
        with self._memory:
            # Another thread may have saved between our reading and now.
            if at >= self._read:
                self._index = index
                self._read = at

    # Changes

    @retried
    def change(self, function: Callable[[Index], Index]) -> Index:
        """Apply a function to the index, and return what the file holds then.

        Parameters
        ----------
        function:
            Makes the new index of the one on the share. Where it changes nothing, nothing is written.

        Raises
        ------
        StoreError
            The lock was not to be had, or the index is damaged.
        """
        with self.lock.held() as lock, Tree(self.root) as tree:
            old = self._settled(lock, tree)
            return self._commit(lock, tree, old, function(old), [])

    @retried
    def save_label(self, image: str, tag: str, source: Path, ext: str, info: Mapping[str, Any]) -> Entry:
        """Save a label of an image; it is durable when this returns.

        Parameters
        ----------
        image:
            The image's id.
        tag:
            The label's tag, the name of its folder.
        source:
            The file to copy.
        ext:
            Extension that the label gets, with its dot.
        info:
            What is known of it. Added are when it was saved (``ts``), its name, its checksum as upstream
            writes checksums, and a version that no other save has.

        Returns
        -------
        dict
            The entry that the index has of it.

        Raises
        ------
        RefusedError
            A name would lead out of the studies folder.
        MissingError
            There is no such image.
        StoreError
            The lock was not to be had, or the index is damaged.
        """
        names.plain(image, "an image")
        names.plain(tag, "a label's tag", 0)
        names.extension(ext)
        self._image(self.index(), image)
        with Tree(self.root) as outside:
            part, checksum = self._copy(outside, source, self.index(1.0).labels(tag))
            try:
                with self.lock.held() as lock, Tree(self.root) as tree:
                    there = self._settled(lock, tree)
                    old = self._image(there, image, tree)
                    now = time.time()
                    new = entry(
                        ext,
                        {
                            **info,
                            "ts": int(now),
                            "name": f"{image}{ext}",
                            "checksum": checksum,
                            "kiln_version": uuid4().hex,
                        },
                    )
                    target = old.label_file(image, tag, ext)
                    moves = self._keep(tree, old, image, tag, target, now)
                    index = old.with_label(image, tag, new)
                    self._commit(lock, tree, there, index, [[part, target], *moves])
            except BaseException:
                # Once it is noted in the record, the next holder of the lock has use for it.
                if not self._noted(part):
                    outside.unlink(part)
                raise
        self._sweep_sometimes()
        return new

    @retried
    def remove_label(self, image: str, tag: str) -> bool:
        """Remove a label; return whether there was one. It is kept as an earlier version.

        Raises
        ------
        RefusedError, StoreError
            As for :meth:`save_label`.
        """
        names.plain(image, "an image")
        names.plain(tag, "a label's tag", 0)
        with self.lock.held() as lock, Tree(self.root) as tree:
            old = self._settled(lock, tree)
            moves = self._gone(tree, old, image, tag)
            new = old.without_label(image, tag) if old.label(image, tag) else old
            self._commit(lock, tree, old, new, moves)
            return new is not old

    @retried
    def add_image(self, image: str, source: Path, ext: str, info: Mapping[str, Any]) -> None:
        """Add an image, or replace one, whose labels stay.

        Parameters
        ----------
        image:
            Its id.
        source:
            The file to copy.
        ext:
            Extension that it gets, with its dot.
        info:
            What is known of it. Added are when it was added (``ts``) and its name.

        Raises
        ------
        RefusedError, StoreError
            As for :meth:`save_label`.
        """
        names.plain(image, "an image")
        names.extension(ext)
        with Tree(self.root) as outside:
            part, _ = self._copy(outside, source, self.index().images)
            try:
                with self.lock.held() as lock, Tree(self.root) as tree:
                    old = self._settled(lock, tree)
                    target = old.image_file(image, ext)
                    moves = [[part, target]]
                    if image in old.objects and old.image_file(image) != target:
                        moves.append([old.image_file(image), ""])
                    new = entry(ext, {**info, "ts": int(time.time()), "name": f"{image}{ext}"})
                    self._commit(lock, tree, old, old.with_image(image, new), moves)
            except BaseException:
                if not self._noted(part):
                    outside.unlink(part)
                raise

    @retried
    def remove_image(self, image: str) -> None:
        """Remove an image and its labels, which are kept as earlier versions; the image is not.

        Raises
        ------
        MissingError
            There is no such image.
        RefusedError, StoreError
            As for :meth:`save_label`.
        """
        names.plain(image, "an image")
        with self.lock.held() as lock, Tree(self.root) as tree:
            there = self._settled(lock, tree)
            old = self._image(there, image, tree)
            moves: Moves = []
            for tag in old.objects[image]["labels"]:
                moves += self._gone(tree, old, image, tag)
            moves.append([old.image_file(image), ""])
            self._commit(lock, tree, there, old.without_image(image), moves)

    def note_image(self, image: str, info: Mapping[str, Any]) -> None:
        """Note something of an image; what is known of it under other keys stays.

        Raises
        ------
        MissingError
            There is no such image.
        StoreError
            As for :meth:`change`.
        """

        def note(index: Index) -> Index:
            if image not in index.objects:
                raise MissingError(f"there is no image {image!r}", "ask the server for its images")
            old = index.objects[image]["image"]
            new = entry(old["ext"], merged(old["info"], info))
            return index if new["info"] == old["info"] else index.with_image(image, {**old, **new})

        self.change(note)

    def note_label(self, image: str, tag: str, info: Mapping[str, Any]) -> None:
        """Note something of a label; what is known of it under other keys stays.

        Raises
        ------
        MissingError
            There is no such label.
        StoreError
            As for :meth:`change`.
        """

        def note(index: Index) -> Index:
            old = index.label(image, tag)
            if old is None:
                raise MissingError(f"there is no label {tag!r} of image {image!r}", "save the label first")
            new = entry(old["ext"], merged(old["info"], info))
            return index if new["info"] == old["info"] else index.with_label(image, tag, {**old, **new})

        self.change(note)

    @retried
    def reconcile(self) -> int:
        """Bring the index in line with the files, as somebody may have copied or removed them by hand.

        Returns
        -------
        int
            Entries that came or went. Where it is 0, which takes no lock, nothing was written.

        Raises
        ------
        StoreError
            As for :meth:`change`; or a folder of studies or labels is a symbolic link.
        """
        index = self.index()
        with Tree(self.root) as tree:
            if scan.compared(tree, index, self.extensions)[1] == 0:
                return 0
        # What was seen may be half of a peer's change, or older than it: only what the lock shows counts.
        with self.lock.held() as lock, Tree(self.root) as tree:
            old = self._settled(lock, tree)
            new, count = scan.compared(tree, old, self.extensions)
            lost = any(
                image not in new.objects or value["labels"].keys() - new.objects[image]["labels"].keys()
                for image, value in old.objects.items()
            )
            if lost and old.raw is not None and self.days > 0:
                earlier.keep_index(tree, FILE, time.time())
            self._commit(lock, tree, old, new, [])
            return count

    def sweep(self) -> None:
        """Remove earlier versions that are old enough, and what killed writers left.

        Raises
        ------
        OSError, StoreError
            The folder cannot be read.
        """
        with Tree(self.root) as tree:
            index = self.index(SWEEP)
            labels = [index.labels(tag) for tag in tree.folders(index.labels(""))]
            kept = [version.path.rpartition("/")[0] for version in earlier.versions(tree)]
            for folder in dict.fromkeys(("", OWN, index.images, *labels, *kept)):
                for name in fnmatch.filter(tree.names(folder), f"{PART}*.part"):
                    path = f"{folder}/{name}".lstrip("/")
                    if tree.age(path, time.time()) > LEFT_OVER and not self._noted(path):
                        tree.unlink(path)
            earlier.expire(tree, self.days)

    def _sweep_sometimes(self) -> None:
        """Sweep where this process has not for an hour; nobody waits for it."""
        if self._swept and time.monotonic() - self._swept < SWEEP:
            return
        self._swept = time.monotonic()

        def work() -> None:
            try:
                self.sweep()
            except (OSError, StoreError) as error:
                logger.warning("nothing was swept: %s", error)

        threading.Thread(target=work, name="kiln-store-sweep", daemon=True).start()

    # What changes are made of

    def _copy(self, tree: Tree, source: Path, folder: str) -> tuple[str, str]:
        """Copy a file to where it will be moved from, durably; return its path and checksum."""
        found = hashlib.sha256()
        with source.open("rb") as stream, tree.part(folder) as (part, file):
            while piece := stream.read(1 << 20):
                found.update(piece)
                put(file, piece)
        return part, f"SHA256:{found.hexdigest()}"

    def _settled(self, lock: Held, tree: Tree) -> Index:
        """Return the index as it is now, after what a killed holder of the lock had begun has been ended."""
        record = lock.read()
        for pause in LOOKS:
            time.sleep(pause)
            tree.forget()
            raw = tree.read(FILE)
            memory = self._index
            known = memory.digest if memory is not None and memory.raw == raw else digest(raw)
            if record is None:
                break
            left = self._left(tree, record, known)
            if left:
                logger.warning("ending what a server that was killed had begun")
                self._move(tree, left)
                raw = tree.read(FILE)
            if left or known == record.after:
                break
            # Seen from the server's memory rather than the share's, or written by somebody who notes nothing.
        else:
            logger.warning("%s was changed by somebody who does not lock it; their version counts", FILE)
        return self._remember(raw, time.monotonic())

    def _left(self, tree: Tree, record: Record, known: str) -> Moves:
        """What is left to do of the last change, nothing where it is done or was not begun.

        Parameters
        ----------
        known:
            Digest of the index as it is.
        """
        if known == record.before and record.moves:
            # The record and the index are written side by side: without the one, the other means nothing.
            part = tree.read(record.moves[-1][0])
            if part is not None and digest(part) == record.after:
                return record.moves
        if known == record.after:
            # A power cut may keep the one of two moves and not the other.
            return [move for move in record.moves if fresh(move) and tree.exists(move[0])]
        return []

    def _commit(self, lock: Held, tree: Tree, old: Index, new: Index, moves: Moves) -> Index:
        """Let some files and an index take the places of others, or none of them."""
        if new is old and not moves:
            return old
        data = new.data
        if data == old.raw and not moves:
            return old
        written = Index(new.document, data, new.lines)

        def note(part: str) -> None:
            lock.write(Record(old.digest, written.digest, [*moves, [part, FILE]]))

        try:
            part = tree.write("", data, note)
        except StoreError:
            # The lock has gone to another holder, whose record it may be by now. Ours, however much of it was
            # written, comes to nothing without the part.
            raise
        except BaseException:
            lock.drop()
            raise
        self._move(tree, [*moves, [part, FILE]])
        self._know(written, time.monotonic())
        return written

    def _move(self, tree: Tree, moves: Moves) -> None:
        """Make the moves of a record, the index last; they are durable when this returns."""
        *before, last = moves
        for source, target in before:
            tree.move(source, target)
        if not all(fresh(move) for move in before):
            # What goes must have gone before the index says so: nobody could tell later whether it came anew.
            tree.sync(*(folder(path) for move in before for path in move if path))
        tree.move(*last)
        tree.sync(*(folder(path) for move in moves for path in move if path))

    def _noted(self, part: str) -> bool:
        """Whether the record has a use for a part."""
        try:
            with Tree(self.root) as tree:
                raw = tree.read(f"{OWN}/lock") or b""
        except OSError:
            return True
        record = Record.parse(raw.partition(b"\n")[0])
        return record is not None and any(part == source for source, _ in record.moves)

    def _image(self, index: Index, image: str, tree: Tree | None = None) -> Index:
        """Return an index that has an image, which may have been copied into the folder just now."""
        if image in index.objects:
            return index
        with Tree(self.root) as other:
            there = (tree or other).names(index.images)
        for ext in scan.endings(self.extensions):
            if f"{image}{ext}" in there:
                info = {"ts": int(time.time()), "name": f"{image}{ext}"}
                return index.with_image(image, entry(ext, info))
        raise MissingError(
            f"there is no image {image!r}", "upload the image, or copy it to the studies folder"
        )

    def _keep(self, tree: Tree, index: Index, image: str, tag: str, target: str, now: float) -> Moves:
        """Give a label that is about to be replaced its second name; return the moves that takes besides."""
        old = index.label(image, tag)
        named = index.label_file(image, tag) if old else target
        moves: Moves = []
        for there in dict.fromkeys((named, target)):
            if not tree.exists(there):
                continue
            kept = self._kept(
                tree, index, image, tag, there.removeprefix(f"{index.labels(tag)}/{image}"), now
            )
            if there != target:
                moves.append([there, kept])
            elif kept:
                tree.link(there, kept)
                tree.sync(kept.rpartition("/")[0])
        return moves

    def _kept(self, tree: Tree, index: Index, image: str, tag: str, ext: str, now: float) -> str:
        """Note what the index has of a label, and return where its file is to be kept; empty for nowhere."""
        if self.days <= 0:
            return ""
        kept = earlier.path(image, tag, ext, now)
        old = index.label(image, tag)
        earlier.note(tree, kept, old if old and old["ext"] == ext else entry(ext, {}))
        return kept

    def _gone(self, tree: Tree, index: Index, image: str, tag: str) -> Moves:
        """Return the moves that take a label away, under whichever extension it lies there."""
        folder = index.labels(tag)
        there = tree.names(folder)
        old = index.label(image, tag)
        moves: Moves = []
        for ext in dict.fromkeys([*([old["ext"]] if old else []), *scan.endings(self.extensions)]):
            if f"{image}{ext}" not in there:
                continue
            kept = self._kept(tree, index, image, tag, ext, time.time())
            moves.append([f"{folder}/{image}{ext}", kept])
        return moves


def read_file(path: Path) -> bytes:
    """Return what a file of the share holds, opened again where its handle has gone stale.

    Raises
    ------
    OSError
        It cannot be read.
    """
    return again(path.read_bytes)


def studies(root: str | os.PathLike[str], environment: Mapping[str, str] = os.environ) -> Store:
    """Return the store of a folder, as a service's environment has its settings.

    Parameters
    ----------
    root:
        The studies folder.
    environment:
        ``KILN_STORE_KEEP_DAYS``, the days that an earlier version is kept, and ``KILN_STORE_WAIT``, the
        seconds to wait for the lock.

    Raises
    ------
    StoreError
        One of them is no number that can be meant.
    """
    return Store(
        Path(root),
        days=number(environment, "KILN_STORE_KEEP_DAYS", earlier.DAYS),
        wait=number(environment, "KILN_STORE_WAIT", WAIT),
    )


def number(environment: Mapping[str, str], name: str, otherwise: float) -> float:
    """Return a number of an environment, at least 0.

    Raises
    ------
    StoreError
        It is none.
    """
    text = environment.get(name, "")
    try:
        found = float(text) if text else otherwise
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise StoreError(f"{name} is {text!r}", "set it to a number, 0 or more, or leave it out")
    return found
