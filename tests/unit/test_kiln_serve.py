"""The program that runs the server: with a small server of its own, in seconds and without torch."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from kiln import paths

FILE = paths.ROOT / "ansible/roles/monai_label/files/kiln_serve.py"

ENVIRONMENT = {
    "MONAI_LABEL_APP_DIR": "/app",
    "MONAI_LABEL_STUDIES": "/studies",
    "MONAI_LABEL_APP_CONF": '{"models": "segmentation_spleen", "sam2": "false"}',
}


sys.path.insert(0, str(FILE.parent))


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kiln_serve", FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


kiln_serve = load()


def test_environment_becomes_upstreams_arguments() -> None:
    said = kiln_serve.arguments({**ENVIRONMENT, "KILN_SERVE_PORT": "8001"})
    assert said[0] == "start_server"
    assert said[said.index("--port") + 1] == "8001"
    assert said[said.index("--host") + 1] == "127.0.0.1"
    assert said[-6:] == ["--conf", "models", "segmentation_spleen", "--conf", "sam2", "false"]


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_missing_variable_is_named(name: str) -> None:
    with pytest.raises(SystemExit, match=f"{name} is not set.*monai-label.env"):
        kiln_serve.arguments({key: value for key, value in ENVIRONMENT.items() if key != name})


@pytest.mark.parametrize("conf", ["{", "[]", '"x"', '{"sam2": false}', '{"models": ["a"]}'])
def test_conf_that_cannot_be_meant_is_refused(conf: str) -> None:
    with pytest.raises(SystemExit, match="MONAI_LABEL_APP_CONF must be a JSON object"):
        kiln_serve.arguments({**ENVIRONMENT, "MONAI_LABEL_APP_CONF": conf})


def test_a_gpu_that_is_demanded_must_be_there() -> None:
    with pytest.raises(SystemExit, match="torch finds no GPU\n  fix: nvidia-smi"):
        kiln_serve.demand_device({"KILN_SERVE_DEVICE": "cuda"}, lambda: False)
    kiln_serve.demand_device({"KILN_SERVE_DEVICE": "cuda"}, lambda: True)
    # Without a word of the settings nobody is asked.
    kiln_serve.demand_device({}, lambda: pytest.fail("asked"))


def test_store_that_cannot_be_meant_is_refused() -> None:
    with pytest.raises(SystemExit, match="KILN_SERVE_STORE is 'none'; set it to shared or stock"):
        kiln_serve.share({"KILN_SERVE_STORE": "none"}, None)
    kiln_serve.share({"KILN_SERVE_STORE": "stock"}, None)


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    address = f"@kiln-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address.replace("@", "\0", 1))
        receiver.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        kiln_serve.notify("READY=1")
        assert receiver.recv(100) == b"READY=1"


def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    kiln_serve.notify("READY=1")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n{}", 200),
        (b"HTTP/1.1 500 Oops\r\n\r\n", 500),
        (b"SSH-2.0-x\r\n", 0),
        (b"", 0),
    ],
)
def test_status_of_an_answer(answer: bytes, status: int) -> None:
    async def ask() -> tuple[int, bytes]:
        asked = bytearray()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.extend(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            return await kiln_serve.status_of("0.0.0.0", server.sockets[0].getsockname()[1], "/info/"), bytes(
                asked
            )

    found, asked = asyncio.run(ask())
    assert found == status
    assert asked.startswith(b"GET /info/ HTTP/1.1\r\n")


# Stands for uvicorn.Server: listens when startup is over, answers what it is told to, runs until should_exit.
BASE = """
class Server:
    started = should_exit = False
    def __init__(self, status):
        self.status, self.config = status, types.SimpleNamespace(host="0.0.0.0", port=0)
    async def startup(self, sockets=None):
        self.server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
        self.config.port, self.started = self.server.sockets[0].getsockname()[1], True
    async def answer(self, reader, writer):
        await reader.readuntil(b"\\r\\n\\r\\n")
        writer.write(f"HTTP/1.1 {self.status} x\\r\\n\\r\\n".encode())
        writer.close()
    async def serve(self):
        await self.startup()
        for _ in range(100):
            if self.should_exit:
                break
            await asyncio.sleep(0.01)
"""


@pytest.mark.parametrize(("status", "ready"), [(200, True), (500, False)])
def test_ready_only_when_info_answers_200(tmp_path: Path, status: int, ready: bool) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        f"import asyncio, gc, json, sys, types\nsys.path.insert(0, {str(FILE.parent)!r})\n"
        f"import kiln_serve\n{BASE}\n"
        + textwrap.dedent(f"""
            gc.disable()
            server = kiln_serve.server_class(Server)({status})
            asyncio.run(server.serve())
            print(json.dumps([server.failed, gc.isenabled()]))
        """)
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(0.2)
        done = subprocess.run(
            [sys.executable, program], env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        try:
            told = receiver.recv(100)
        except TimeoutError:
            told = b""
    assert told.startswith(b"READY=1") is ready
    assert json.loads(done.stdout) == [not ready, ready]
    assert ("answered 500 instead of 200" in done.stderr) is not ready


# The gateway's module stands for itself; what it is given of MONAI Label stands for upstream's.
UPSTREAM = """
app = types.SimpleNamespace(dependency_overrides={}, middlewares=[])
app.add_middleware = app.middlewares.append
def save_label(image, params="{}"):
    return params
for name, has in {
    "monailabel": {}, "monailabel.app": {"app": app}, "monailabel.endpoints": {},
    "monailabel.endpoints.datastore": {"save_label": save_label}, "monailabel.endpoints.user": {},
    "monailabel.endpoints.user.auth": {"User": dict, "get_current_user": print},
}.items():
    made = sys.modules[name] = types.ModuleType(name)
    made.__path__ = []
    vars(made).update(has)
sys.modules["monailabel.endpoints"].datastore = sys.modules["monailabel.endpoints.datastore"]
"""
IDENTITY = paths.ROOT / "ansible/roles/gateway/files/kiln_identity.py"


def identified(tmp_path: Path, file: Path, more: str = "") -> subprocess.CompletedProcess[str]:
    """Have a server with a table know who is behind a request; says what it is then."""
    program = tmp_path / "program.py"
    program.write_text(
        f"import asyncio, json, sys, types\nsys.path.insert(0, {str(FILE.parent)!r})\n"
        f"from functools import partial\nfrom pathlib import Path\n"
        f"import kiln_inflight, kiln_serve\n{BASE}\n{UPSTREAM}\n{more}\n"
        + textwrap.dedent(f"""
            path = list(sys.path)
            server = kiln_serve.server_class(Server)(200)
            server.table, server.config.loaded_app = kiln_inflight.Table(Path({str(tmp_path)!r})), app
            server.identify = partial(kiln_serve.identify, Path({str(file)!r}))
            asyncio.run(server.serve())
            from monailabel.endpoints import datastore
            print(json.dumps({{
                "middlewares": [one.__name__ for one in app.middlewares],
                "overridden": len(app.dependency_overrides),
                "saved": datastore.save_label("x"),
                "wrapped": server.config.loaded_app is not app,
                "path": sys.path == path,
                "beside": "kiln_identity" in sys.modules,
            }}))
        """)
    )
    return subprocess.run([sys.executable, program], capture_output=True, text=True)


def test_behind_the_gateway_upstream_knows_who_asks(tmp_path: Path) -> None:
    done = identified(tmp_path, IDENTITY)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said.pop("saved") == '{"user": "local"}'
    # The table is around it, and nothing of the gateway's folder can be imported by accident.
    assert said == {
        "middlewares": ["Identity"], "overridden": 1, "wrapped": True, "path": True, "beside": False,
    }  # fmt: skip


def test_without_the_gateway_nothing_is_mounted(tmp_path: Path) -> None:
    done = identified(tmp_path, tmp_path / "none.py")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["middlewares"], said["overridden"], said["saved"]) == ([], 0, "{}")


def test_a_release_that_would_lose_the_names_does_not_start(tmp_path: Path) -> None:
    other = 'sys.modules["monailabel.endpoints.datastore"].save_label = lambda image, values: values'
    done = identified(tmp_path, IDENTITY, other)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        (
            "error: nobody's name would be noted: save_label of this MONAI Label has no params:"
            " see kiln_identity.py"
        ),
        f"  fix: adapt {IDENTITY} to this MONAI Label, or bake without the role gateway",
    ]


# As little of upstream's endpoints as the guard looks at.
ENDPOINTS = """
def stands(name, **has):
    made = sys.modules[name] = types.ModuleType(name)
    made.__path__ = []
    vars(made).update(has)
    above, _, last = name.rpartition(".")
    if above:
        setattr(sys.modules[above], last, made)
class HTTPException(Exception):
    pass
class Sessions:
    def add_session(self):
        return shutil.unpack_archive
def run(params=None, run_sync=False):
    print("done")
def infer(image="", params="{}", wsi=None):
    print("done")
stands("fastapi", HTTPException=HTTPException)
stands("monailabel")
stands("monailabel.utils")
stands("monailabel.utils.sessions", Sessions=Sessions, shutil=shutil)
stands("monailabel.endpoints")
stands("monailabel.endpoints.infer", run_inference=infer)
stands("monailabel.endpoints.wsi_infer", run_wsi_inference=infer)
stands("monailabel.endpoints.train", run=run, run_model=run)
stands("monailabel.endpoints.batch_infer", run=run)
stands("monailabel.endpoints.session", create_session=lambda uncompress: None)
"""


def guarded(tmp_path: Path, more: str) -> subprocess.CompletedProcess[str]:
    """Have a server look at requests, and ask one of its endpoints."""
    program = tmp_path / "program.py"
    program.write_text(
        f"import asyncio, shutil, sys, types\nsys.path.insert(0, {str(FILE.parent)!r})\n"
        f"import kiln_serve\n{BASE}\n{ENDPOINTS}\n{more}\n"
        + textwrap.dedent("""
            server = kiln_serve.server_class(Server)(200)
            server.guard = kiln_serve.guard
            asyncio.run(server.serve())
            from monailabel.endpoints import train
            train.run({}, False)
            train.run({}, True)
        """)
    )
    return subprocess.run([sys.executable, program], capture_output=True, text=True)


def test_requests_are_looked_at_before_the_server_answers_any(tmp_path: Path) -> None:
    done = guarded(tmp_path, "")
    assert done.stdout == "done\n", done.stderr
    assert "HTTPException" in done.stderr and "run_sync would keep the server" in done.stderr


def test_a_release_whose_requests_cannot_be_looked_at_does_not_start(tmp_path: Path) -> None:
    done = guarded(tmp_path, "stands('monailabel.endpoints.train', run=print, run_model=run)")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-2:] == [
        "error: requests would not be looked at: train.run has no run_sync",
        f"  fix: adapt {FILE.parent}/kiln_guard.py to this MONAI Label",
    ]


def test_the_table_is_kept_and_ready_when_info_answers(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        f"import asyncio, json, sys, types\nsys.path.insert(0, {str(FILE.parent)!r})\n"
        f"from pathlib import Path\nimport kiln_inflight, kiln_serve\n{BASE}\n"
        + textwrap.dedent(f"""
            folder = Path({str(tmp_path)!r})
            server = kiln_serve.server_class(Server)(200)
            server.table, server.config.loaded_app = kiln_inflight.Table(folder), print
            before = kiln_inflight.read(folder / "inflight").ready
            asyncio.run(server.serve())
            after = kiln_inflight.read(folder / "inflight").ready
            print(json.dumps([before, after, server.config.loaded_app is print]))
        """)
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [False, True, False]
