"""Servers of the proven image, each as its unit runs it: in a layer over the root, as its own user.

Their processes are of this machine: they are killed and stopped as any other, their tables of requests are
read from outside, and nginx of this machine may stand before them. The root is the image's; systemd and the
unit's sandbox are not there.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from kiln import paths
from scripts import layer
from tests.defects.campaign import sealed_root
from tests.gateway.gateway import free_port

FILES = paths.ROOT / "ansible/roles/monai_label/files"
IDENTITY = paths.ROOT / "ansible/roles/gateway/files/kiln_identity.py"
HOME = "/var/lib/monai-label"

ACCOUNT = 10001
"""As the role's defaults have it: the studies are the service's."""

LIMIT = 600.0
"""Seconds for a start, where other work keeps the machine busy."""

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"said": {"class": "logging.StreamHandler"}},
    "root": {"level": "INFO", "handlers": ["said"]},
}
"""Of a server with an app of the tests: all of it is what the server says."""

INSIDE = (
    "set -e; m={merged}; mount --bind {studies} $m{home}/studies; mount --rbind /dev $m/dev;"
    " mkdir -p $m/run/monai-label; mount --bind {runtime} $m/run/monai-label;"
    " {{ test -d $m/tmp || mkdir $m/tmp; }}; mount -t tmpfs -o mode=1777{scratch} tmp $m/tmp;"
    " exec chroot $m /usr/bin/setpriv --reuid={account} --regid={account} --clear-groups --pdeathsig=KILL"
    " /usr/bin/env -i {environment}"
    " sh -c 'umask 0007; cd {home}; exec {python} /opt/monai-label/kiln_serve.py'"
)


@dataclass
class Live:
    """A server that runs, or has run.

    Parameters
    ----------
    place:
        Its folder: its layer, what it says, its table of requests.
    studies:
        The studies folder, which others may share.
    port:
        On 127.0.0.1.
    command:
        What starts it.
    """

    place: Path
    studies: Path
    port: int
    command: list[str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def table(self) -> Path:
        """Its requests in flight."""
        return self.place / "runtime/inflight"

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.place / "log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Of its process: each program before it became the next."""
        assert self.process
        return self.process.pid

    def start(self) -> None:
        """Start it, and wait for nothing."""
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=paths.ROOT, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self) -> None:
        """Wait until it answers."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end and self.process and self.process.poll() is None:
            try:
                if self.ask("GET", "/info/").status_code == 200:
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"a server does not answer:\n{self.log[-4000:]}")

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Return its answer."""
        return requests.request(method, f"{self.url}{path}", **{"timeout": LIMIT, **options})

    def end(self, number: int = signal.SIGKILL) -> int:
        """Send a signal to it and whatever it has started; return its exit code."""
        assert self.process
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass
        return self.process.wait(60)


def settings(root: Path) -> dict[str, str]:
    """Variables of the service in a root, by the server's own reader of its file."""
    sys.path.insert(0, str(FILES))
    from kiln_prepare import settings as read

    found: dict[str, str] = read((root / "etc/kiln/monai-label.env").read_text())
    return found


@contextmanager
def server(
    place: Path,
    studies: Path,
    *,
    app: Path | None = None,
    named: bool = False,
    scratch: str = "",
    conf: str = "",
    **variables: str,
) -> Iterator[Live]:
    """A server that is not started yet; whatever runs of it at the end is killed.

    Parameters
    ----------
    place:
        A new folder for it.
    studies:
        The studies folder.
    app:
        An app of the tests, instead of the image's.
    named:
        Whether the gateway's module notes who is behind a request.
    scratch:
        Size of its /tmp, as mount takes it; half of the memory where it is empty.
    conf:
        ``MONAI_LABEL_APP_CONF``, the image's where it is empty.
    variables:
        Of its environment, besides the image's own.
    """
    runtime, root = place / "runtime", sealed_root()
    runtime.mkdir(parents=True)
    merged = layer.merged(place / "layer")
    command = layer.command(root, place / "layer", ["sh", "-c", "true"])
    opt = place / "layer/upper/opt/monai-label"
    shutil.copytree(FILES, opt, ignore=shutil.ignore_patterns("__pycache__"))
    if named:
        (place / "layer/upper/opt/kiln-gateway").mkdir()
        shutil.copy(IDENTITY, place / "layer/upper/opt/kiln-gateway")
    for folder in (studies, runtime):
        os.chown(folder, ACCOUNT, ACCOUNT)
    port = free_port()
    known: Mapping[str, str] = {
        **settings(root),
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": HOME,
        "XDG_CACHE_HOME": f"{HOME}/cache",
        "MPLCONFIGDIR": f"{HOME}/cache/matplotlib",
        "PYTHONDONTWRITEBYTECODE": "1",
        "RUNTIME_DIRECTORY": "/run/monai-label",
        "KILN_SERVE_HOST": "127.0.0.1",
        "KILN_SERVE_PORT": str(port),
        **({"MONAI_LABEL_APP_CONF": conf} if conf else {}),
        **variables,
    }
    if app:
        inside = place / f"layer/upper{HOME}/apps/{app.name}"
        shutil.copytree(app, inside, ignore=shutil.ignore_patterns("__pycache__"))
        # The image's own settings of logging name a file of the image's app.
        (inside / "logging.json").write_text(json.dumps(LOGGING))
        for path in (inside, *inside.rglob("*")):
            os.chown(path, ACCOUNT, ACCOUNT)
        folder = f"{HOME}/apps/{app.name}"
        known = {**known, "MONAI_LABEL_APP_DIR": folder, "KILN_SERVE_LOGGING": f"{folder}/logging.json"}
        # The folders above it are the layer's now, and were made by root.
        for above in (inside.parent, inside.parent.parent):
            shutil.copystat(root / above.relative_to(place / "layer/upper"), above)
            os.chown(above, ACCOUNT, ACCOUNT)
    made = INSIDE.format(
        merged=merged, studies=studies, runtime=runtime, home=HOME, account=ACCOUNT,
        scratch=f",size={scratch}" if scratch else "", python="/opt/monai-label/venv/bin/python",
        environment=" ".join(f"{name}={_quoted(value)}" for name, value in known.items()),
    )  # fmt: skip
    live = Live(place, studies, port, [*command[:-1], made])
    try:
        yield live
    finally:
        if live.process and live.process.poll() is None:
            live.end()


def _quoted(value: str) -> str:
    """A word for the shell."""
    return "'" + value.replace("'", "'\\''") + "'"


@contextmanager
def servers(place: Path, studies: Path, count: int, **options: Any) -> Iterator[list[Live]]:
    """Several servers on one studies folder, which answer."""
    with ExitStack() as stack:
        found = [
            stack.enter_context(server(place / f"server-{number}", studies, **options))
            for number in range(count)
        ]
        for one in found:
            one.start()
        for one in found:
            one.wait()
        yield found


def studies(folder: Path, images: int) -> Path:
    """Make a studies folder with images ``image-0`` and so on, which are no more than names."""
    folder.mkdir()
    for number in range(images):
        (folder / f"image-{number}.nii.gz").write_bytes(b"image")
    for path in (folder, *folder.iterdir()):
        os.chown(path, ACCOUNT, ACCOUNT)
    return folder
