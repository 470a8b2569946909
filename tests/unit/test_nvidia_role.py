"""What the role nvidia refuses, by its own task files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from kiln import paths
from tests.defects import rows
from tests.image.live import test_nvidia as live

PIN = {"name": "keyring.asc", "url": "https://example.org/key.pub", "sha256": "a" * 64}


def run(tmp_path: Path, tasks: str, variables: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """A task file of the role on this machine; what is given goes before what its tasks find out."""
    role = {"ansible.builtin.include_role": {"name": "nvidia", "tasks_from": tasks}}
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [role]}
    return played(tmp_path, play, variables)


def played(
    tmp_path: Path, play: dict[str, Any], variables: dict[str, Any]
) -> subprocess.CompletedProcess[str]:
    """A play on this machine."""
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [Path(sys.executable).parent / "ansible-playbook", "--extra-vars", json.dumps(variables)]
    return subprocess.run(
        [*command, tmp_path / "play.yml"],
        env={**environment, "ANSIBLE_CONFIG": str(paths.ROOT / "ansible.cfg")},
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "nvidia_modules_package is empty"),
        (
            {"nvidia_driver_source": "nvidia_repository"},
            "kiln pins add nvidia nvidia-archive-keyring.asc https://",
        ),
        (
            {
                "nvidia_driver_source": "nvidia_repository",
                "nvidia_pins": [PIN],
                "nvidia_repository_fingerprints": ["A4B469963BF863CC"],
            },
            "40 capital hex digits",
        ),
        (
            {
                "nvidia_driver_source": "nvidia_repository",
                "nvidia_pins": [PIN],
                "nvidia_repository_fingerprints": [],
            },
            "fingerprints of its keys",
        ),
    ],
)
def test_what_cannot_be_installed_is_refused(tmp_path: Path, variables: dict[str, Any], words: str) -> None:
    done = run(tmp_path, "refuse", variables)
    assert done.returncode == 2, done.stdout
    assert words in done.stdout + done.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"nvidia_modules_package": "/run/kiln-build/nvidia-modules.deb"},
        {"nvidia_driver_source": "nvidia_repository", "nvidia_pins": [PIN]},
        {"nvidia_driver_source": "preinstalled"},
    ],
)
def test_what_can_be_installed_is_not_refused(tmp_path: Path, variables: dict[str, Any]) -> None:
    done = run(tmp_path, "refuse", variables)
    assert done.returncode == 0, done.stdout + done.stderr


USERSPACE = "userspace libcuda.so.535.309.01"


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [USERSPACE],
        ["6.1.0-56-cloud-amd64 535.309.01"],
        ["6.1.0-56-cloud-amd64 ", USERSPACE],
        ["6.1.0-56-cloud-amd64 535.261.03", USERSPACE],
        ["6.1.0-55-cloud-amd64 ", "6.1.0-56-cloud-amd64 535.309.01", USERSPACE],
        ["6.1.0-56-cloud-amd64 535.309.01", USERSPACE, "userspace libcuda.so.470.256.02"],
    ],
)
def test_driver_that_differs_is_refused(tmp_path: Path, lines: list[str]) -> None:
    said = {"stdout_lines": lines}
    done = run(tmp_path, "verify", {"__nvidia_versions": said})
    assert done.returncode == 2, done.stdout
    assert f"Found: {', '.join(lines) or 'neither'}" in " ".join((done.stdout + done.stderr).split())


ONE_VERSION = {"stdout_lines": ["6.1.0-56-cloud-amd64 535.309.01", USERSPACE]}


def programs(*, there: bool) -> dict[str, Any]:
    """What the role finds of nvidia-modprobe, beside an nvidia-persistenced that is there."""
    names = {"/usr/bin/nvidia-modprobe": there, "/usr/bin/nvidia-persistenced": True}
    return {"results": [{"item": name, "stat": {"exists": value}} for name, value in names.items()]}


def test_driver_of_one_version_is_accepted(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "verify",
        {"__nvidia_versions": ONE_VERSION, "__nvidia_programs": programs(there=True)},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_driver_that_cannot_make_its_device_files_is_refused(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "verify",
        {"__nvidia_versions": ONE_VERSION, "__nvidia_programs": programs(there=False)},
    )
    assert done.returncode == 2, done.stdout
    said = " ".join((done.stdout + done.stderr).split())
    assert "The driver came without /usr/bin/nvidia-modprobe, and nothing would make" in said


@pytest.mark.parametrize(
    ("source", "listed", "held"),
    [
        ("debian", [], ["linux-image-*", "*nvidia*", "libcuda*"]),
        ("nvidia_repository", [], ["linux-image-*", "*nvidia*", "libcuda*"]),
        # Installed, held already, known by name alone, removed.
        (
            "preinstalled",
            ["ii  libcuda1", "hi  nvidia-smi", "un  nvidia-driver", "rc  libnvidia-cfg1"],
            ["linux-image-*", "libcuda1", "nvidia-smi"],
        ),
        ("preinstalled", [], ["linux-image-*"]),
    ],
)
def test_what_is_held_follows_from_the_source(
    tmp_path: Path, source: str, listed: list[str], held: list[str]
) -> None:
    internals = yaml.safe_load((paths.ROOT / "ansible/roles/nvidia/vars/main.yml").read_text())
    given = {name: internals[name] for name in ("__nvidia_held", "__nvidia_found")}
    show = {
        "ansible.builtin.copy": {"dest": str(tmp_path / "held"), "content": "{{ __nvidia_held | to_json }}"}
    }
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": given,
        "tasks": [show],
    }
    done = played(
        tmp_path, play, {"nvidia_driver_source": source, "__nvidia_listed": {"stdout_lines": listed}}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "held").read_text()) == held


T4 = "pci:v000010DEd00001EB8sv000010DEsd000012A2bc03sc02i00"
ACTIVE = {"LoadState": "loaded", "ActiveState": "active"}
TWO_GPUS = {
    **rows.sound(),
    "pci_devices": [T4, T4],
    "gpu_minors": ["0", "1"],
    "gpu_devices": [
        "/dev/nvidia0",
        "/dev/nvidia1",
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia-uvm-tools",
    ],
    "gpu_service": ACTIVE,
    "persistenced": ACTIVE,
    "modprobe_nvidia": "",
    "nvidia_loaded": True,
}
"""What a guest with two GPUs would answer; none was asked."""


def test_guest_with_gpus_passes() -> None:
    live.test_modprobe_says_no_such_device(TWO_GPUS)
    live.test_persistenced_runs_where_there_is_a_gpu(TWO_GPUS)
    live.test_every_gpu_has_its_device_files(TWO_GPUS)


@pytest.mark.parametrize("device", TWO_GPUS["gpu_devices"])
def test_guest_that_lacks_a_device_file_is_refused(device: str) -> None:
    left = [name for name in TWO_GPUS["gpu_devices"] if name != device]
    with pytest.raises(AssertionError, match=rf"finds no GPU without {device}\n"):
        live.test_every_gpu_has_its_device_files({**TWO_GPUS, "gpu_devices": left})


def test_guest_whose_driver_left_a_gpu_is_refused() -> None:
    with pytest.raises(AssertionError, match="2 GPU on the PCI bus, and the driver has taken 1"):
        live.test_every_gpu_has_its_device_files({**TWO_GPUS, "gpu_minors": ["0"]})


REPOSITORY = paths.ROOT / "tests/fixtures/nvidia_repository"
ITS_KEY = "45C0B2A191069542EB6224D803B884ECEB3A86CC"
OTHER_KEY = "EB693B3035CD5710E231E123A4B469963BF863CC"


@pytest.mark.parametrize(
    ("fingerprints", "taken"), [([ITS_KEY], True), ([OTHER_KEY, ITS_KEY], True), ([OTHER_KEY], False)]
)
def test_apt_takes_a_repository_by_reviewed_keys_alone(
    tmp_path: Path, fingerprints: list[str], taken: bool
) -> None:
    template = (paths.ROOT / "ansible/roles/nvidia/templates/nvidia.sources.j2").read_text()
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/nvidia.sources").write_text(
        jinja2.Template(template).render(
            nvidia_repository_url=f"file:{REPOSITORY}/",
            nvidia_repository_fingerprints=fingerprints,
            __nvidia_keyring=str(REPOSITORY / "keyring.asc"),
        )
    )
    (tmp_path / "lists/partial").mkdir(parents=True)
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "{tmp_path}/parts";\n'
        f'Dir::State::lists "{tmp_path}/lists";\nDir::Cache "{tmp_path}";\nAPT::Sandbox::User "root";\n'
    )
    done = subprocess.run(
        ["apt-get", "update", "-o", "APT::Update::Error-Mode=any"],
        env={**os.environ, "APT_CONFIG": str(tmp_path / "apt.conf"), "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode == 0) is taken, done.stdout + done.stderr
    assert taken or "is not signed" in done.stderr
