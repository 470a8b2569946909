"""The user data's stages, each for real but for what takes minutes; no figure comes of it.

Packages of the driver are only resolved, the lock is a small one, and app and server run in the environment
of the baked image. ``make bench`` runs it whole.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from kiln import config, paths
from kiln.errors import KilnError
from scripts import base, images, inputs, native
from tests.benchmarks import baked_over_install, machine

ONLY_RESOLVED = ("update", "driver", "nfs")
DONE = ("environment",)
IN_THE_IMAGE = ("app", "start")
NOT_WITHOUT_THE_COMPILATION = ("module",)

ASK = (
    "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8001/info/', timeout=60).read().decode())"
)


def test_every_stage_is_tried() -> None:
    stages = re.search(r"^stages=\((.*)\)$", baked_over_install.SCRIPT.read_text(), re.M)
    assert stages is not None
    tried = {*ONLY_RESOLVED, *DONE, *IN_THE_IMAGE, *NOT_WITHOUT_THE_COMPILATION}
    assert set(stages[1].split()) == tried


@pytest.mark.slow
@pytest.mark.root
def test_it_installs_on_the_plain_base(tmp_path: Path) -> None:
    tiny = config.load(paths.ROOT / "tests/fixtures/tiny/kiln.toml").image["tiny"]
    resolved = inputs.resolve("tiny", tiny, tmp_path / "log")
    root = tmp_path / "root"
    base.unpack(resolved.lock, resolved.inputs.tools, root, tmp_path / "log", print)
    volumes = baked_over_install.volumes(paths.ROOT / "requirements/uv.lock")
    script = f"{baked_over_install.INSIDE}/userdata.sh"
    log = tmp_path / "machine.log"
    with machine.start(root, tmp_path, machine.fresh(tmp_path / "apt"), log, volumes) as one:
        one.run(script, *ONLY_RESOLVED, APT_OPTIONS="--simulate")
        one.run(script, *DONE, LOCK=f"{baked_over_install.INSIDE}/lock")
        # A stage that fails must end the script: set -e does not reach everywhere.
        with pytest.raises(KilnError, match="module failed"):
            one.run(script, *NOT_WITHOUT_THE_COMPILATION)
    assert (root / "opt/workshop/venv/bin/uv").is_file()
    said = log.read_text()
    for package in ("nvidia-kernel-dkms", "linux-headers-cloud-amd64", "nfs-common"):
        assert re.search(rf"^Inst {package} ", said, re.M)


@pytest.mark.slow
@pytest.mark.root
def test_what_it_starts_serves(tmp_path: Path) -> None:
    share = tmp_path / "share"
    share.mkdir()
    shutil.copy(baked_over_install.SCRIPT, share)
    with native.start(images.resolve(baked_over_install.IMAGE) / "root", tmp_path.name, share) as container:
        native.wait_ready(container)
        container.run("systemctl", "stop", native.UNIT)
        script = f"{native.INSIDE}/{baked_over_install.SCRIPT.name}"
        container.run("env", "VENV=/opt/monai-label/venv", "PORT=8001", script, *IN_THE_IMAGE)
        wait = "import socket,time\nwhile socket.socket().connect_ex(('127.0.0.1', 8001)): time.sleep(.5)"
        container.run("timeout", "300", "/usr/bin/python3", "-c", wait, timeout=330)
        info = json.loads(container.run("/usr/bin/python3", "-c", ASK))
    assert "segmentation_spleen" in info["models"]
