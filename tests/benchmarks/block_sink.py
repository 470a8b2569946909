"""A server that takes PutSnapshotBlock and keeps of each block its checksum, in next to no time of its own.

The emulator answers the same in Python that does much more, on the same two cores: beside it the client
would be measured by what is left. So here HTTP is read as little as it takes. That a checksum is that of its
block is AWS's to find; here the checksums are held against those of the disk in the end.
"""

from __future__ import annotations

import base64
import json
import socket
import sys
import threading

CHUNK = 1 << 18

HEAD_END = b"\r\n\r\n"


class Taken:
    """What came: number of a block → its sha256 as the client says, bytes of the bodies, number of puts."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        self.sums: dict[int, str] = {}
        self.bytes = self.puts = 0

    def note(self, index: int, checksum: str, length: int) -> None:
        with self.lock:
            self.sums[index] = base64.b64decode(checksum).hex()
            self.bytes += length
            self.puts += 1


def serve(connection: socket.socket, taken: Taken) -> None:
    """Answer one connection until it ends: PUT as EBS does; GET gives what came so far, DELETE forgets it."""
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    with connection:
        while head := _head(connection):
            first, headers, begun = head
            method, path, _ = first.split(" ", 2)
            length = rest = int(headers.get("content-length", "0"))
            rest -= begun
            while rest:
                rest -= connection.recv_into(view[: min(rest, CHUNK)])
            checksum = headers.get("x-amz-checksum", "")
            body, extra = b"{}", ""
            if method == "PUT":
                # /snapshots/{snapshotId}/blocks/{blockIndex}
                taken.note(int(path.rsplit("/", 1)[1].partition("?")[0]), checksum, length)
                extra = f"x-amz-Checksum: {checksum}\r\nx-amz-Checksum-Algorithm: SHA256\r\n"
            elif method == "GET":
                found = {"sums": taken.sums, "bytes": taken.bytes, "puts": taken.puts}
                body = json.dumps(found).encode()
            else:
                taken.forget()
            answer = (
                f"HTTP/1.1 {201 if extra else 200} OK\r\nContent-Type: application/json\r\n{extra}"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            connection.sendall(answer.encode() + body)


def _head(connection: socket.socket) -> tuple[str, dict[str, str], int] | None:
    """Read a request up to its body: first line, headers, bytes of the body that came with it."""
    data = b""
    while HEAD_END not in data:
        more = connection.recv(CHUNK)
        if not more:
            return None
        data += more
    head, _, body = data.partition(HEAD_END)
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in lines)
    return first, {name.lower(): value.strip() for name, value in pairs}, len(body)


def main() -> None:
    """Serve on a free port of the loopback, and print the address."""
    taken = Taken()
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(f"http://127.0.0.1:{server.getsockname()[1]}", flush=True)
        while True:
            connection, _ = server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=serve, args=(connection, taken), daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
