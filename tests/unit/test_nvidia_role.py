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

from kiln import paths

PIN = {"name": "keyring.asc", "url": "https://example.org/key.pub", "sha256": "a" * 64}


def run(tmp_path: Path, tasks: str, variables: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """A task file of the role on this machine; what is given goes before what its tasks find out."""
    role = {"ansible.builtin.include_role": {"name": "nvidia", "tasks_from": tasks}}
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [role]}
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


def test_driver_of_one_version_is_accepted(tmp_path: Path) -> None:
    said = {"stdout_lines": ["6.1.0-56-cloud-amd64 535.309.01", USERSPACE]}
    done = run(tmp_path, "verify", {"__nvidia_versions": said})
    assert done.returncode == 0, done.stdout + done.stderr


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
