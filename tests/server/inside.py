"""Runs in the root of an image: two servers on one studies folder, and clients of both. Prints JSON."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

OPT = Path("/opt/monai-label")
HOME = Path("/var/lib/monai-label")
STUDIES = HOME / "studies"
IMAGES = 5
SAVES = 25
LIMIT = 600.0
"""Seconds for a start, or a task, where other work keeps the machine busy."""
END = b"\n\n"
"""Between the header of an image and its voxels."""

sys.path.insert(0, str(OPT))


class Server:
    """A server of the image's, as its unit starts it, on a port of its own."""

    def __init__(self, name: str) -> None:
        from kiln_prepare import settings

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = Path(f"/tmp/{name}.log")
        environment = {
            **os.environ,
            **settings(Path("/etc/kiln/monai-label.env").read_text()),
            "KILN_SERVE_PORT": str(port),
            "KILN_SERVE_HOST": "127.0.0.1",
        }
        program = [sys.executable, str(OPT / "kiln_serve.py")]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(program, cwd=HOME, env=environment, stdout=log, stderr=log)

    def wait(self) -> None:
        """Wait until it answers."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if self.ask("GET", "/info/").status_code == 200:
                    return
            except OSError:
                time.sleep(0.2)
        raise SystemExit(f"a server does not answer:\n{self.log.read_text()[-4000:]}")

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """Return its answer."""
        import requests

        return requests.request(method, f"{self.url}{path}", timeout=LIMIT, **options)

    def save(self, image: str, tag: str, body: bytes, **noted: Any) -> Any:
        """Save a label as a client does."""
        return self.ask(
            "PUT", "/datastore/label", params={"image": image, "tag": tag},
            data={"params": json.dumps(noted)}, files={"label": ("label.nrrd", image_of(body))},
        )  # fmt: skip


def image_of(body: bytes) -> bytes:
    """An image with these voxels: what is none is refused."""
    header = f"NRRD0004\ntype: uint8\ndimension: 1\nsizes: {len(body)}\nencoding: raw"
    return header.encode() + END + body


def read(label: bytes) -> str:
    """What was sent as a label."""
    return label.partition(END)[2].decode()


def side_by_side(*work: Callable[[], None]) -> None:
    """Do several things at once."""
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def writer(server: Server, name: str, acknowledged: list[list[Any]], until: Callable[[], bool]) -> None:
    """Save labels to a server, with another tag for each round, until told to stop or the server has gone."""
    for place in itertools.count():
        image, tag = f"image-{place % IMAGES}", f"{name}{place // IMAGES}"
        try:
            if (
                server.save(image, tag, f"{name} {place}".encode(), writer=name, place=place).status_code
                == 200
            ):
                acknowledged.append([image, tag, name, place])
        except OSError:
            return
        if until():
            return


def main() -> None:
    """Run the servers, and say what came of it."""
    for number in range(IMAGES):
        (STUDIES / f"image-{number}.nii.gz").write_bytes(b"image")
    one, other = Server("one"), Server("other")
    said: dict[str, Any] = {}
    try:
        begin = time.monotonic()
        # Upstream's datastore, which reads at the end what the servers have written.
        from monailabel.datastore.local import LocalDatastore

        side_by_side(one.wait, other.wait)
        said["start"] = round(time.monotonic() - begin, 1)
        said.update(questions(one, other))
        task = other.ask(
            "POST", "/batch/infer/segmentation_spleen", params={"images": "labeled"}, json={"images": []}
        )
        said["task"] = [task.status_code]

        acknowledged: list[list[Any]] = []
        side_by_side(
            lambda: writer(one, "a", acknowledged, lambda: len(acknowledged) >= 2 * SAVES),
            lambda: writer(other, "b", acknowledged, lambda: len(acknowledged) >= 2 * SAVES),
        )
        # The other goes on while one is killed in the middle of a save.
        killed = threading.Timer(0.5, lambda: one.process.send_signal(signal.SIGKILL))
        killed.start()
        limit = len(acknowledged) + 2 * SAVES
        side_by_side(
            lambda: writer(one, "c", acknowledged, lambda: False),
            lambda: writer(other, "d", acknowledged, lambda: len(acknowledged) >= limit),
        )
        said["killed"] = one.process.wait()
        said["acknowledged"] = acknowledged
        said["known"] = other.ask("GET", "/datastore/", params={"output": "all"}).json()
        said["task"] += task_of(other)
        stock = LocalDatastore(
            str(STUDIES), extensions=["*.nii.gz", "*.nrrd"], auto_reload=False, read_only=True
        )
        said["stock"] = stock.json()
        said["stock_files"] = all(
            os.path.isfile(stock.get_label_uri(image, tag))
            for image, value in said["stock"]["objects"].items()
            for tag in value["labels"]
        )
        said["log"] = other.log.read_text()[-4000:]
    finally:
        for server in (one, other):
            server.process.kill()
            server.process.wait()
    print(json.dumps(said))


def questions(one: Server, other: Server) -> dict[str, Any]:
    """What one server answers at once about what the other was told."""
    said: dict[str, Any] = {}
    tag = {"label": "image-0", "tag": "final"}
    one.save("image-0", "final", b"first", by="one")
    said["label"] = read(other.ask("GET", "/datastore/label", params=tag).content)
    said["noted"] = other.ask("GET", "/datastore/label/info", params=tag).json()
    other.save("image-0", "final", b"second", by="other")
    said["replaced"] = read(one.ask("GET", "/datastore/label", params=tag).content)
    said["earlier"] = [
        read(path.read_bytes())
        for path in sorted((STUDIES / ".kiln-store/earlier/final/image-0").iterdir())
        if path.suffix != ".json"
    ]
    other.ask("DELETE", "/datastore/label", params={"id": "image-0", "tag": "final"})
    said["removed"] = one.ask("GET", "/datastore/label", params=tag).status_code
    one.ask("PUT", "/datastore/image", params={"image": "sent"}, files={"file": ("x.nrrd", image_of(b"x"))})
    said["sent"] = other.save("sent", "original", b"label").status_code
    said["sample"] = one.ask("POST", "/activelearning/random", json={"client_id": "me"}).json()
    said["out"] = [
        other.save("image-0", "../../../out", b"x").status_code,
        other.save("image-0", "..", b"x").status_code,
        other.ask(
            "PUT", "/datastore/image", params={"image": "../out"}, files={"file": ("x.nrrd", image_of(b"x"))}
        ).status_code,
        other.save("nobody", "final", b"x").status_code,
    ]
    session = one.ask("PUT", "/session/", files=[("files", ("s.nii.gz", b"session"))]).json()["session_id"]
    said["session"] = other.ask("GET", f"/session/{session}", params={"image": "true"}).text
    other.ask("DELETE", f"/session/{session}")
    said["session_removed"] = one.ask("GET", f"/session/{session}").status_code
    return said


def task_of(server: Server) -> list[Any]:
    """How the background task went, and whether its own process says that it is on the store."""
    end = time.monotonic() + LIMIT
    while True:
        task = server.ask("GET", "/batch/infer/").json()
        if task["status"] in ("DONE", "ERROR", "STOPPED") or time.monotonic() > end:
            own = "(kiln_store.datastore:" in server.log.read_text()  # as a task's lines name their place
            return [task["status"], own, list(task.get("details", []))[-3:]]
        time.sleep(0.2)


if __name__ == "__main__":
    main()
