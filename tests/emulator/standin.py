"""A stand-in for the MONAI Label server: its loop is blocked by an inference as upstream's is, and it keeps
the table.

``python -m tests.emulator.standin RUNTIME PORT`` under the role's files. ``POST /infer/x?SECONDS`` blocks
the loop so long; ``POST /train/SECONDS`` and ``POST /batch_infer/SECONDS`` start a process with the command
line that the shared store gives such a task; ``GET /info/`` names the models.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import kiln_inflight
from kiln_store import tasks

MODELS = {"models": {"segmentation_spleen": {}}}


def task(kind: str, program: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a process that stands for a task, by the program that starts the shared store's tasks.

    Parameters
    ----------
    kind:
        ``train``, ``batch_infer`` or ``scoring``.
    program:
        What it does, in Python.
    """
    line = [sys.executable, "-c", program, "-m", tasks.UPSTREAM, "-m", kind, "-r", "{}"]
    started: subprocess.Popen[bytes] = tasks.Subprocess.Popen(line, **options)
    return started


async def app(scope: Any, _: Any, send: Any) -> None:
    """What stands for the application."""
    status, body, path = 200, MODELS, scope["path"]
    if path.startswith("/infer"):
        time.sleep(float(scope["query"]))
        body = {"mask": "of " + scope["query"]}
    elif path.startswith(("/train", "/batch_infer")):
        _, kind, seconds = path.split("/")
        child = task(kind, f"import time; time.sleep({seconds})")
        members = Path(sys.argv[1]) / "cgroup.procs"
        members.write_text(members.read_text() + f"{child.pid}\n")
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def main(runtime: Path, port: int) -> None:
    """Serve."""
    table = kiln_inflight.Table(runtime)
    (runtime / "cgroup.procs").write_text("")
    tabled = kiln_inflight.middleware(app, table)

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                writer.write(f"HTTP/1.1 {message['status']} x\r\nConnection: close\r\n\r\n".encode())
            else:
                writer.write(message["body"])

        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, target, _ = head.split(" ", 2)
            path, _, query = target.partition("?")
            await tabled(
                {"type": "http", "method": method, "path": path, "query": query},
                None,  # type: ignore[arg-type]
                send,
            )
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", port)
    table.ready()
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
