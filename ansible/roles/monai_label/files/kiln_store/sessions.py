"""Sessions on a folder that servers share: an image that a client sent to one is there for all."""

from __future__ import annotations

import logging
import os
import time
import uuid
from pathlib import Path
from typing import Any

from monailabel.utils.sessions import Sessions

from . import names
from .errors import RefusedError
from .tree import PART

logger = logging.getLogger(__name__)


class SharedSessions(Sessions):  # type: ignore[misc]
    """Sessions that a peer may make, use and remove at any moment.

    Upstream writes what it knows of a session in its place at each use, so that a peer may read half of it,
    and its cleaning ends the server's start at a session that is not whole yet. A session is a copy that its
    client still has: nothing here is made durable.
    """

    def _path(self, session_id: Any) -> Path | None:
        try:
            return Path(self.store_path, names.plain(session_id, "a session"))
        except RefusedError:
            return None

    def get_session(self, session_id: str, update_ts: bool = True, fetch_cache: bool = True) -> Any:
        """Return a session, None where there is none. What a peer has removed is not remembered."""
        path = self._path(session_id)
        if path is None:
            return None
        if not path.is_dir():
            self.pop(session_id, None)
            return None
        try:
            return super().get_session(session_id, update_ts, fetch_cache)
        except (OSError, ValueError):
            return None  # removed meanwhile

    def remove_session(self, session_id: str) -> None:
        """Remove a session, if it is one."""
        if self._path(session_id) is not None:
            super().remove_session(session_id)

    def remove_expired(self) -> int:
        """Remove sessions that nobody has used for as long as they are kept; return how many."""
        count = 0
        folder = Path(self.store_path)
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.name.startswith(".") or not path.is_dir():
                continue
            found = self.get_session(path.name, update_ts=False, fetch_cache=False)
            try:
                # One without a description may still be on its way.
                limit = found.last_access_ts + found.expiry if found else path.stat().st_mtime + self.expiry
            except OSError:
                continue
            if limit < time.time() and (not found or found.expiry > 0):
                self.remove_session(path.name)
                count += 1
        return count

    def _write_meta_info(self, session_id: str, session_info: Any) -> None:
        path = Path(self.store_path, session_id)
        part = path / f"{PART}{uuid.uuid4().hex}.part"
        try:
            part.write_text(session_info.to_str(), encoding="utf-8")
            os.replace(part, path / "meta.info")  # noqa: PTH105
        except FileNotFoundError:
            logger.info("session %s was removed by another server", session_id)
