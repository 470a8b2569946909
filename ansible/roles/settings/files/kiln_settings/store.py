"""Generations of files: a new one is written beside the one that counts, and one rename makes it count."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

DOCUMENT = "settings.toml"
"""In each generation: the document that it was made from."""

PREFIX = "generation-"


class Store:
    """The generations of a machine.

    Parameters
    ----------
    folder:
        Where they lie; made if missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.link = folder / "current"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep others out, and clear what a killed run left."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            self._clear()
            yield
            self._clear()
        finally:
            os.close(handle)

    def current(self) -> dict[str, str] | None:
        """Files of the generation that counts, None where none does."""
        try:
            name = str(self.link.readlink())
        except OSError:
            return None
        if not re.fullmatch(rf"{PREFIX}\w+", name) or not (self.folder / name / DOCUMENT).is_file():
            return None
        return {
            path.name: path.read_text(encoding="utf-8") for path in sorted((self.folder / name).iterdir())
        }

    def put(self, files: dict[str, str]) -> bool:
        """Make files count, all of them at once; whatever happens, it is these or those of before.

        Parameters
        ----------
        files:
            Text by name, with the document's.

        Returns
        -------
        bool
            Whether that changed anything.
        """
        if self.current() == files:
            return False
        made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self.folder))
        for name, text in files.items():
            with (made / name).open("x", encoding="utf-8", newline="") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
        # kiln-auth is not root.
        made.chmod(0o755)
        _sync(made)
        half = self.folder / f"{made.name}.link"
        half.symlink_to(made.name)
        half.replace(self.link)
        _sync(self.folder)
        return True

    def forget(self) -> None:
        """Make no generation count."""
        self.link.unlink(missing_ok=True)
        _sync(self.folder)

    def _clear(self) -> None:
        """Remove everything but the generation that counts."""
        kept = {self.link.name, str(self.link.readlink()) if self.link.is_symlink() else ""}
        for path in list(self.folder.iterdir()):
            if path.name not in kept:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(path: Path, text: str) -> None:
    """Replace a file in one step, as the only one who does; it need not survive a crash of the machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.part")
    half.write_text(text, encoding="utf-8")
    half.replace(path)
