"""The metadata service on a port of this machine, as scripts.imds has it for a guest, with what a test
changes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

from scripts import imds

TARGET = "meta-data/autoscaling/target-lifecycle-state"
SPOT = "meta-data/spot/instance-action"


class Service:
    """A metadata service.

    Parameters
    ----------
    log:
        File to which each request is added.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self.secret = "secret"
        self.tree = dict(imds.TREE)
        self.faults = 0
        """How many requests are still answered by a 503."""
        service = self

        class Handler(imds.Handler):
            @property
            def secret(self) -> str:  # type: ignore[override]
                return service.secret

            tree = service.tree

            def _answer(self, status: int, text: str = "", headers: dict[str, str] | None = None) -> None:
                if service.faults:
                    service.faults -= 1
                    status, text, headers = 503, "", None
                super()._answer(status, text, headers)

        Handler.log = log
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_address[1]}"

    def instance(self, instance: str, target: str) -> None:
        """Be this instance's, of which Auto Scaling wants something."""
        self.tree["meta-data/instance-id"] = instance
        self.tree[TARGET] = target

    def spot(self, when: str) -> None:
        """Give notice that the spot instance ends."""
        self.tree[SPOT] = json.dumps({"action": "terminate", "time": when})


@contextmanager
def serve(log: Path) -> Iterator[Service]:
    """Serve on a free port."""
    service = Service(log)
    threading.Thread(target=service.server.serve_forever, daemon=True).start()
    try:
        yield service
    finally:
        service.server.shutdown()
        service.server.server_close()
