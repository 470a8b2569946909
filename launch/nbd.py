"""A client of the NBD protocol, as much of it as reading takes: qemu-nbd reads any disk format for us.

Specification: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md, "Newstyle negotiation" and
"Simple reply message". libnbd would do, but its Python bindings are not on PyPI.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from types import TracebackType

from kiln.errors import KilnError

_GREETING = b"NBDMAGICIHAVEOPT"
_NEWSTYLE, _NO_ZEROES = 1, 2
_EXPORT_NAME = 1
_REQUEST, _REPLY = 0x25609513, 0x67446698
_READ, _DISCONNECT = 0, 2


class Connection:
    """One connection to an export; for one thread.

    Parameters
    ----------
    path:
        The server's Unix socket.

    Raises
    ------
    OSError
        Nobody listens there.
    KilnError
        What listens there is no NBD server.
    """

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(path))
            self._socket.settimeout(60)
            self.size = self._negotiate()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._ask(_DISCONNECT, 0, 0)
        except OSError:
            pass  # the server is gone, which is what we ask of it
        self._socket.close()

    def _negotiate(self) -> int:
        greeting = self._take(18)
        if greeting[:16] != _GREETING:
            raise _broken("it does not greet as one")
        self._socket.sendall(struct.pack(">I8sII", _NEWSTYLE | _NO_ZEROES, b"IHAVEOPT", _EXPORT_NAME, 0))
        size, _flags = struct.unpack(">QH", self._take(10))
        return int(size)

    def read(self, offset: int, into: memoryview) -> None:
        """Read from the disk.

        Parameters
        ----------
        offset:
            Bytes from its start.
        into:
            Filled; its length says how much is read.

        Raises
        ------
        KilnError
            The disk cannot be read there.
        """
        self._ask(_READ, offset, len(into))
        magic, error, _cookie = struct.unpack(">IIQ", self._take(16))
        if magic != _REPLY:
            raise _broken("it answers out of turn")
        if error:
            raise KilnError(
                f"the disk cannot be read at byte {offset} (error {error})", "check it: qemu-img check"
            )
        self._fill(into)

    def _ask(self, what: int, offset: int, length: int) -> None:
        self._socket.sendall(struct.pack(">IHHQQI", _REQUEST, 0, what, 0, offset, length))

    def _take(self, length: int) -> bytes:
        buffer = bytearray(length)
        self._fill(memoryview(buffer))
        return bytes(buffer)

    def _fill(self, view: memoryview) -> None:
        while view:
            got = self._socket.recv_into(view)
            if not got:
                raise _broken("it hung up")
            view = view[got:]


def _broken(why: str) -> KilnError:
    return KilnError(f"qemu-nbd does not serve the disk: {why}", "check it: qemu-img check")
