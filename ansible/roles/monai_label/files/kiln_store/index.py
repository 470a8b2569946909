"""``datastore_v2.json``: which images and labels there are, and what is known of them.

The format is upstream's, field for field, so that a stock server can read it. Fields that neither knows stay
as they are. An index never changes: what changes it returns another one, so that the copy in a server's
memory is always one that was in the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from . import names
from .errors import StoreError

FILE = "datastore_v2.json"

Entry = dict[str, Any]
"""``ext`` and ``info`` of an image or a label."""

SAME = 60
"""Seconds within which an image that is given to the same client again needs no other note."""

Lines = dict[str, tuple[Entry, bytes]]
"""Image → its entry, and its line in the file."""

HEAD_END = b', "objects": {'
END = b"}}\n"

NEW: Entry = {
    "name": "new-dataset",
    "description": "New Dataset",
    "images_dir": ".",
    "labels_dir": "labels",
    "objects": {},
}
"""What upstream begins with."""


def digest(data: bytes | None) -> str:
    """Return the digest of an index, empty where there is none."""
    return hashlib.sha256(data).hexdigest() if data is not None else ""


def entry(ext: str, info: Mapping[str, Any]) -> Entry:
    """Return an entry that is what the file will hold of it.

    Parameters
    ----------
    ext:
        Extension of the file, with its dot.
    info:
        What is known of it. What JSON cannot hold becomes text, as upstream does it.
    """
    return {"ext": ext, "info": json.loads(json.dumps(dict(info), default=str))}


def merged(old: Entry, new: Mapping[str, Any]) -> Entry:
    """Return what is known of an image or a label once something is noted of it.

    Parameters
    ----------
    old:
        What is known.
    new:
        What is noted. It replaces what is known under the same keys, but for ``strategy``, which has a note
        of each strategy that gave the image to somebody: one server must not undo another's. A note that only
        moves the time by less than :data:`SAME` is none, so that asking for the next sample again and again
        does not write the file each time.
    """
    found = {**old, **new}
    known, noted = old.get("strategy"), new.get("strategy")
    if isinstance(known, dict) and isinstance(noted, dict):
        found["strategy"] = {**known, **{key: _later(known.get(key), note) for key, note in noted.items()}}
    return found


def _later(old: Any, new: Any) -> Any:
    """Which of two notes of a strategy counts."""
    try:
        between = new["ts"] - old["ts"]
        same = {**old, "ts": 0} == {**new, "ts": 0}
    except (KeyError, TypeError):
        return new
    return old if between < 0 or (same and between < SAME) else new


def _by_lines(raw: bytes, known: Lines) -> Entry | None:
    """Return the content of a file that was written line by line, None where it was not.

    Parameters
    ----------
    raw:
        The file.
    known:
        Entries that are taken where their line is the same.
    """
    head, _, body = raw.partition(b"\n")
    if not known or not head.endswith(HEAD_END) or not body.endswith(b"\n" + END):
        return None
    there = {line: image for image, (_, line) in known.items()}
    objects: Entry = {}
    try:
        document: Entry = json.loads(head + b"}}")
        for line in body[: -len(END) - 1].split(b",\n"):
            image = there.get(line)
            if image is None:
                objects.update(json.loads(b"{" + line + b"}"))
            else:
                objects[image] = known[image][0]
    except ValueError:
        return None
    return {**document, "objects": objects}


@dataclass(frozen=True)
class Index:
    """An index, which never changes.

    Parameters
    ----------
    document:
        The file's content. Nobody changes it.
    raw:
        The file as it was read, None for one that was not.
    known:
        Lines of an index that this one was made of.
    """

    document: Entry
    raw: bytes | None = None
    known: Lines = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def parse(cls, raw: bytes | None, new: Mapping[str, Any] = NEW, old: Index | None = None) -> Index:
        """Return the index of a file.

        Parameters
        ----------
        raw:
            The file, None where there is none.
        new:
            What a new index begins with.
        old:
            An index whose entries are taken over where their lines are the same: a peer's save has changed
            one of thousands.

        Raises
        ------
        StoreError
            It is no index, or leads out of the studies folder.
        """
        if raw is None:
            return cls({**NEW, **new})
        lines = old.lines if old is not None else {}
        try:
            document = _by_lines(raw, lines) or json.loads(raw)
            for image, value in document["objects"].items():
                if image in lines and lines[image][0] is value:
                    continue
                for part in (value["image"], *value.setdefault("labels", {}).values()):
                    part.setdefault("ext", "")
                    part.setdefault("info", {})
                    if not isinstance(part["ext"], str) or not isinstance(part["info"], dict):
                        raise TypeError("an entry is none")
            if not isinstance(document["name"], str) or not isinstance(document["description"], str):
                raise TypeError("name and description are no text")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"{FILE} is not an index of studies: {type(error).__name__}: {error}",
                "restore it from a backup; without one the files are indexed anew, with nothing noted",
            ) from error
        document.setdefault("images_dir", "")
        document.setdefault("labels_dir", "labels")
        names.inside(document["images_dir"], "images_dir")
        if not names.inside(document["labels_dir"], "labels_dir"):
            raise StoreError(f"{FILE} has no folder for labels", 'set "labels_dir" in it to "labels"')
        return cls(document, raw, lines)

    @cached_property
    def lines(self) -> Lines:
        """Image → its entry and the line that holds it, where the entry is still the one of a line known."""
        found: Lines = {}
        for image, value in self.objects.items():
            before = self.known.get(image)
            if before is None or before[0] is not value:
                before = value, f"{json.dumps(image)}: {json.dumps(value)}".encode()
            found[image] = before
        return found

    @cached_property
    def data(self) -> bytes:
        """The file that holds this index: an image on each line, which is quick to write and to compare."""
        head = {key: value for key, value in self.document.items() if key != "objects"}
        rows = b",\n".join(line for _, line in self.lines.values())
        return json.dumps(head)[:-1].encode() + HEAD_END + b"\n" + rows + b"\n" + END

    @cached_property
    def digest(self) -> str:
        """Digest of the file as it was read."""
        return digest(self.raw)

    @property
    def objects(self) -> dict[str, Entry]:
        """Image → its entry and its labels."""
        found: dict[str, Entry] = self.document["objects"]
        return found

    @property
    def images(self) -> str:
        """Folder of the images, relative to the studies folder."""
        return names.inside(self.document["images_dir"], "images_dir")

    def labels(self, tag: str) -> str:
        """Return the folder of a tag's labels, relative to the studies folder."""
        return f"{names.inside(self.document['labels_dir'], 'labels_dir')}/{tag}".rstrip("/")

    def image_file(self, image: str, ext: str | None = None) -> str:
        """Return the path of an image, relative to the studies folder."""
        ext = self.objects[image]["image"]["ext"] if ext is None else ext
        return names.inside(f"{self.images}/{image}{ext}".lstrip("/"), "an image")

    def label_file(self, image: str, tag: str, ext: str | None = None) -> str:
        """Return the path of a label, relative to the studies folder."""
        ext = self.objects[image]["labels"][tag]["ext"] if ext is None else ext
        return names.inside(f"{self.labels(tag)}/{image}{ext}", "a label")

    def label(self, image: str, tag: str) -> Entry | None:
        """Return the entry of a label, None where there is none."""
        found: Entry | None = self.objects.get(image, {}).get("labels", {}).get(tag)
        return found

    def _with(self, objects: dict[str, Entry]) -> Index:
        return Index({**self.document, "objects": objects}, known=self.lines)

    def with_fields(self, **fields: str) -> Index:
        """Return an index with another name or description."""
        return Index({**self.document, **fields}, known=self.lines)

    def with_image(self, image: str, new: Entry) -> Index:
        """Return an index with an image, whose labels stay."""
        old = self.objects.get(image, {"labels": {}})
        return self._with({**self.objects, image: {**old, "image": new}})

    def without_image(self, image: str) -> Index:
        """Return an index without an image and its labels."""
        return self._with({key: value for key, value in self.objects.items() if key != image})

    def with_label(self, image: str, tag: str, new: Entry) -> Index:
        """Return an index with a label of an image that it has; other tags stay."""
        old = self.objects[image]
        return self._with({**self.objects, image: {**old, "labels": {**old["labels"], tag: new}}})

    def without_label(self, image: str, tag: str) -> Index:
        """Return an index without a label."""
        old = self.objects[image]
        rest = {key: value for key, value in old["labels"].items() if key != tag}
        return self._with({**self.objects, image: {**old, "labels": rest}})
