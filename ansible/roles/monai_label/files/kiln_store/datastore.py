"""The store as MONAI Label's datastore."""

from __future__ import annotations

import copy
import io
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.datastore.local import LocalDatastore, LocalDatastoreModel
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException

from . import content
from .earlier import DAYS
from .errors import MissingError, RefusedError, StoreError
from .index import FILE, Index
from .lock import WAIT
from .store import Store, number, read_file

logger = logging.getLogger(__name__)

WINDOW = 0.05
"""Seconds that a question about one image may be answered from memory: a strategy asks about each of
thousands. What lists images or labels is always read anew, and so is what memory does not have."""

RESCAN = 2.0
"""Seconds between two looks for files that somebody copied there by hand, if anybody asks for a list."""


@contextmanager
def answered() -> Iterator[None]:
    """Turn what the store says into an answer to the client, in the same two lines.

    Raises
    ------
    HTTPException
        400 for what cannot be meant, 503 for what may go well later.
    """
    try:
        yield
    except RefusedError as error:
        raise HTTPException(400, str(error)) from error
    except StoreError as error:
        logger.exception("the shared store")
        raise HTTPException(503, str(error)) from error
    except OSError as error:
        logger.exception("the shared store")
        text = f"the studies folder: {error.strerror}\n  fix: see that the share is there and has room"
        raise HTTPException(503, text) from error


def text(name: str) -> str:
    """Return a tag as text: upstream's own tags are members of an enumeration, which print as such."""
    return str(name.value) if isinstance(name, Enum) else name


class SharedDatastore(LocalDatastore):  # type: ignore[misc]
    """A local datastore that keeps every label with any number of servers on its folder.

    Upstream's methods that only read are upstream's: they find the index of the share where they look for
    their own. Whatever writes is here.

    Parameters
    ----------
    datastore_path, images_dir, labels_dir, datastore_config, extensions, read_only:
        As upstream has them.
    auto_reload:
        Whether files are found that somebody copied there by hand. Nothing watches the folder: it is listed
        when somebody asks what is in it. What a peer saves is found in any case.
    """

    def __init__(
        self,
        datastore_path: str,
        images_dir: str = ".",
        labels_dir: str = "labels",
        datastore_config: str = FILE,
        extensions: Sequence[str] = ("*.nii.gz", "*.nii"),
        auto_reload: bool = False,
        read_only: bool = False,
    ) -> None:
        if datastore_config != FILE:
            raise StoreError(f"the index of the shared store is {FILE}", "leave its name as it is")
        patterns = [extensions] if isinstance(extensions, str) else list(extensions)
        self._store = Store(
            Path(datastore_path),
            patterns,
            days=number(os.environ, "KILN_STORE_KEEP_DAYS", DAYS),
            wait=number(os.environ, "KILN_STORE_WAIT", WAIT),
            new={"images_dir": images_dir, "labels_dir": labels_dir},
        )
        logger.info("Shared store of %s", datastore_path)
        self._rescan = auto_reload and not read_only
        self._scanned = time.monotonic()
        self._building = threading.Lock()
        self._built: tuple[Index, Any] | None = None
        # Its watcher would walk the whole tree of a mount every second.
        super().__init__(datastore_path, images_dir, labels_dir, datastore_config, patterns, False, read_only)
        self._auto_reload = auto_reload

    # Reading

    @property
    def _datastore(self) -> Any:
        """Upstream's model of the index, which upstream's methods read."""
        index = self._store.index(WINDOW)
        with self._building:
            if self._built is None or self._built[0] is not index:
                # From the bytes: whoever changes what it got changes nothing of ours.
                model = LocalDatastoreModel.model_validate_json(index.raw or index.data)
                model.base_path = self._datastore_path
                self._built = (index, model)
            return self._built[1]

    @_datastore.setter
    def _datastore(self, _: Any) -> None:
        """Upstream's constructor begins with a model of its own; the index decides."""

    def _fresh(self) -> None:
        """Read the index, and look for files that came by hand."""
        if self._rescan and time.monotonic() - self._scanned >= RESCAN:
            self._scanned = time.monotonic()
            try:
                self._store.reconcile()
            except (StoreError, OSError):
                # A list of what the index has is an answer, too.
                logger.warning("the studies folder could not be looked through", exc_info=True)
        self._store.index()

    def _with(self, image: str, tag: str = "") -> Index:
        """Return an index that has an image, or a label of it, if any has."""
        index = self._store.index(WINDOW)
        there = index.label(image, tag) if tag else index.objects.get(image)
        return index if there else self._store.index()

    def _path(self, path: str) -> str:
        return os.path.realpath(os.path.join(self._datastore_path, path))  # noqa: PTH118 - upstream's own way

    def datalist(self, full_path: bool = True) -> Any:
        self._fresh()
        return super().datalist(full_path)

    def get_labeled_images(self, label_tag: Any = None, labels: Any = None) -> Any:
        self._fresh()
        return super().get_labeled_images(label_tag, labels)

    def get_unlabeled_images(self, label_tag: Any = None, labels: Any = None) -> Any:
        self._fresh()
        return super().get_unlabeled_images(label_tag, labels)

    def list_images(self) -> Any:
        self._fresh()
        return super().list_images()

    def status(self) -> Any:
        self._fresh()
        return super().status()

    def json(self) -> Any:
        self._fresh()
        return super().json()

    def get_image_uri(self, image_id: str) -> str:
        with answered():
            index = self._with(image_id)
            return self._path(index.image_file(image_id)) if image_id in index.objects else ""

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        tag = text(label_tag)
        with answered():
            index = self._with(label_id, tag)
            return self._path(index.label_file(label_id, tag)) if index.label(label_id, tag) else ""

    def get_image_info(self, image_id: str) -> Any:
        self._with(image_id)
        return super().get_image_info(image_id)

    def get_label_info(self, label_id: str, label_tag: str) -> Any:
        label = self._with(label_id, text(label_tag)).label(label_id, text(label_tag))
        return copy.deepcopy(label["info"]) if label else {}

    def get_labels_by_image_id(self, image_id: str) -> Any:
        self._with(image_id)
        return super().get_labels_by_image_id(image_id)

    def _to_bytes(self, file: str) -> Any:
        return io.BytesIO(read_file(Path(file)))

    # Writing

    def set_name(self, name: str) -> None:
        with answered():
            self._store.change(lambda index: index.with_fields(name=name))

    def set_description(self, description: str) -> None:
        with answered():
            self._store.change(lambda index: index.with_fields(description=description))

    def add_image(self, image_id: str, image_filename: str, image_info: Any) -> str:
        name, ext = self._to_id(os.path.basename(image_filename))  # noqa: PTH119
        with answered():
            content.listed(ext, self._store.extensions)
            content.check(Path(image_filename), ext, "the image")
            self._store.add_image(image_id or name, Path(image_filename), ext, image_info or {})
        return image_id or name

    def remove_image(self, image_id: str) -> None:
        with answered():
            try:
                self._store.remove_image(image_id)
            except MissingError as error:
                raise ImageNotFoundException(str(error)) from error

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: Any) -> str:
        _, ext = self._to_id(os.path.basename(label_filename))  # noqa: PTH119
        with answered():
            content.check(Path(label_filename), ext, "the label")
            try:
                self._store.save_label(image_id, text(label_tag), Path(label_filename), ext, label_info or {})
            except MissingError as error:
                raise ImageNotFoundException(str(error)) from error
        return image_id

    def remove_label(self, label_id: str, label_tag: str) -> None:
        with answered():
            self._store.remove_label(label_id, text(label_tag))

    def update_image_info(self, image_id: str, info: Any) -> None:
        with answered():
            try:
                self._store.note_image(image_id, info)
            except MissingError as error:
                raise ImageNotFoundException(str(error)) from error

    def update_label_info(self, label_id: str, label_tag: str, info: Any) -> None:
        with answered():
            try:
                self._store.note_label(label_id, text(label_tag), info)
            except MissingError as error:
                raise LabelNotFoundException(str(error)) from error

    # What upstream's own writing is made of

    def _reconcile_datastore(self) -> None:
        self._scanned = time.monotonic()
        self._store.reconcile()

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:  # noqa: ARG002
        self._store.index()

    def _update_datastore_file(self, lock: bool = True) -> None:  # noqa: ARG002
        raise StoreError(
            "the index was to be written from a server's memory", "change it by the methods of a datastore"
        )
