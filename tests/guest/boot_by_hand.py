"""``kiln boot`` of the server's image, as a user calls it: addresses that answer, and an end on Ctrl-C."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path

from monailabel.client import MONAILabelClient

from kiln import paths
from scripts import annotate

KILN = Path(sys.executable).parent / "kiln"
LATEST = paths.build_dir() / "monai-label/latest"


def test_the_server_is_reached_at_the_addresses_that_are_printed() -> None:
    child = subprocess.Popen([KILN, "boot", "monai-label"], stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    said = {}
    try:
        for line in child.stderr:
            name, _, value = line.strip().partition("  ")
            said[name] = value.strip()
            if "Ctrl-C stops it" in line:
                break
        client = MONAILabelClient(said["http"])
        assert annotate.log_in(client, *said["login"].split())["valid"]
        assert "segmentation_spleen" in client.info()["models"]
        command = shlex.split(said["ssh"].rpartition("(")[0])
        done = subprocess.run([*command, "cat /etc/image-release"], capture_output=True, text=True)
        assert LATEST.readlink().name in done.stdout, done.stderr
    finally:
        child.send_signal(signal.SIGINT)
        rest = child.communicate(timeout=180)[1]
    assert child.returncode == 0, rest
