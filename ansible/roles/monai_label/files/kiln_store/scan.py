"""Files that somebody copied into the studies folder, or removed from it, by hand."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Sequence

from . import names
from .index import Entry, Index, entry
from .tree import Tree


def endings(extensions: Sequence[str]) -> list[str]:
    """Return the extensions of patterns such as ``*.nii.gz``."""
    return [pattern.replace("*", "") for pattern in extensions]


def listed(tree: Tree, folder: str, extensions: Sequence[str]) -> dict[str, str]:
    """Id → extension of the files in a folder that are images or labels."""
    found: dict[str, str] = {}
    there = tree.names(folder)
    # The first pattern wins, as with upstream.
    for pattern, ext in zip(extensions, endings(extensions), strict=True):
        for name in sorted(fnmatch.filter(there, pattern)):
            image = name.removesuffix(ext)
            if image and not name.startswith("."):
                found.setdefault(image, ext)
    return found


def compared(tree: Tree, index: Index, extensions: Sequence[str]) -> tuple[Index, int]:
    """Return an index in line with the files, and how many entries came or went.

    Parameters
    ----------
    tree:
        A look at the studies. Entries may only be dropped by one that was taken under the lock.
    index:
        What is known of them.
    extensions:
        Patterns of files that are images and labels.

    Raises
    ------
    RefusedError
        A folder is a symbolic link, or an entry leads out of the studies folder.
    """
    images = listed(tree, index.images, extensions)
    names_of = {"": tree.names(index.images)}
    tags = tree.folders(index.labels(""))
    known = {tag for value in index.objects.values() for tag in value["labels"]}
    for tag in dict.fromkeys([*tags, *sorted(known)]):
        names_of[tag] = tree.names(index.labels(names.inside(tag, "a label's tag")))
    now = int(time.time())
    objects: dict[str, Entry] = {}
    count = 0

    def there(place: str, name: str, path: str) -> bool:
        # An id with a slash is one that upstream lets a client make; the file may be there.
        return name in names_of[place] if "/" not in name else tree.exists(names.inside(path, "an id"))

    for image, value in index.objects.items():
        ext = value["image"]["ext"]
        if not there("", f"{image}{ext}", index.image_file(image)):
            count += 1
            continue
        kept = {
            tag: label
            for tag, label in value["labels"].items()
            if there(tag, f"{image}{label['ext']}", index.label_file(image, tag))
        }
        lost = len(value["labels"]) - len(kept)
        count += lost
        objects[image] = value if not lost else {**value, "labels": kept}
    for image, ext in images.items():
        if image not in objects:
            count += 1
            objects[image] = {
                "image": entry(ext, {"ts": now, "name": f"{image}{ext}"}),
                "labels": {},
            }
    for tag in tags:
        for image, ext in listed(tree, index.labels(tag), extensions).items():
            if image in objects and tag not in objects[image]["labels"]:
                count += 1
                label = entry(ext, {"ts": now, "name": f"{image}{ext}"})
                labels = {**objects[image]["labels"], tag: label}
                objects[image] = {**objects[image], "labels": labels}
    return (index if not count else Index({**index.document, "objects": objects})), count
