"""A server that takes PutSnapshotBlock and keeps of each block its checksum, in next to no time of its own.

The emulator answers the same in Python that does much more, on the same two cores: beside it the client
would be measured by what is left. That a checksum is that of its block is AWS's to find; here the checksums
are held against those of the disk in the end.
"""

from __future__ import annotations

import base64
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any


class Taken:
    """What came.

    Parameters
    ----------
    sums:
        Number of a block → its sha256 as the client says, in hexadecimal.
    bytes:
        Of the bodies.
    puts:
        How many requests it were.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.sums: dict[int, str] = {}
        self.bytes = 0
        self.puts = 0


class Handler(BaseHTTPRequestHandler):
    """Answers as EBS does; GET gives what came so far, DELETE forgets it."""

    protocol_version = "HTTP/1.1"
    taken = Taken()

    def do_PUT(self) -> None:
        length = int(self.headers["Content-Length"])
        rest, buffer = length, bytearray(1 << 16)
        while rest:
            rest -= self.rfile.readinto(memoryview(buffer)[: min(rest, len(buffer))])
        # /snapshots/{snapshotId}/blocks/{blockIndex}
        index = int(self.path.rsplit("/", 1)[1].partition("?")[0])
        checksum = self.headers["x-amz-Checksum"]
        with self.taken.lock:
            self.taken.sums[index] = base64.b64decode(checksum).hex()
            self.taken.bytes += length
            self.taken.puts += 1
        self._answer(201, {}, checksum)

    def do_GET(self) -> None:
        self._answer(200, {"sums": self.taken.sums, "bytes": self.taken.bytes, "puts": self.taken.puts})

    def do_DELETE(self) -> None:
        self.taken.__init__()  # type: ignore[misc]
        self._answer(200, {})

    def _answer(self, status: int, body: dict[str, Any], checksum: str = "") -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        if checksum:
            self.send_header("x-amz-Checksum", checksum)
            self.send_header("x-amz-Checksum-Algorithm", "SHA256")
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


def main() -> None:
    """Serve on a free port of the loopback, and print the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
