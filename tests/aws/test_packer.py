"""The committed template by real Packer: amazon-ebs on the emulator, ssh and Ansible into a container."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kiln import config, manifest, paths
from kiln.version_files import PACKER, VersionFiles
from launch import names
from scripts import inputs
from tests.emulator.handle import Emulator
from tests.emulator.host import ADMIN, Host
from tests.unit import contract

pytestmark = [pytest.mark.slow, pytest.mark.root]

TAGS = "sysctl,core_dumps"
"""Controls of the role hardening: they need no package and no network."""

WRITTEN = ("/etc/sysctl.d/60-kiln-kernel.conf", "/etc/security/limits.d/60-kiln-core-dumps.conf")
"""What these tags write, and nothing else does."""

VERSION = contract.VERSION
DEBIAN = "136693071363"
BIN = Path(sys.executable).parent


def host_root() -> Path:
    """A root with sshd: the proven image's; ``KILN_HOST_ROOT`` names another."""
    if named := os.environ.get("KILN_HOST_ROOT"):
        return Path(named)
    latest = paths.build_dir() / "monai-label/latest"
    assert latest.exists(), "there is no proven image: run make bake"
    return latest.resolve() / "root"


def named() -> str:
    """Name of the container; ``KILN_HOST_NAME`` gives another."""
    return os.environ.get("KILN_HOST_NAME", f"kiln-host-{os.getpid()}")


@pytest.fixture
def host(client: Callable[..., Any]) -> Iterator[Host]:
    with Host(host_root(), named()) as made:
        made.run("rm", "-f", *WRITTEN)
        made.attend(client("ec2"))
        yield made


def _variables(folder: Path) -> Path:
    image = config.load(paths.ROOT / "kiln.toml").select("monai-label")
    roles = ["base", "hardening", "nvidia", "efs_client", "agents", "monai_label", "seal"]
    release = {
        "image": "monai-label",
        "version": VERSION,
        "input_digest": contract.DIGEST,
        "git_commit": "f" * 40,
        "base": "debian-12@test",
    }
    path = folder / "extra-vars.json"
    path.write_text(json.dumps({**inputs.variables(image, roles), "seal_release": release}))
    return path


def _packer(emulator: Emulator, host: Host, folder: Path, made: Path) -> str:
    variables = {
        "ec2_endpoint": emulator.endpoint,
        "ssh_interface": "private_ip",
        "ssh_host": "127.0.0.1",
        "ssh_port": str(host.port),
        "version": VERSION,
        "run_id": "packer-test",
        "region": "us-east-1",
        "base_ami_owner": DEBIAN,
        "poll_seconds": "1",
        "ansible_command": str(BIN / "ansible-playbook"),
        "ansible_env": json.dumps(
            [f"ANSIBLE_RUN_TAGS={TAGS}", f"ANSIBLE_CONFIG={paths.ROOT / 'ansible.cfg'}"]
        ),
        "extra_vars": str(_variables(folder)),
        "playbook": str(paths.ROOT / "ansible/playbooks/monai_label.yml"),
        "manifest": str(made),
    }
    options = [word for name, value in variables.items() for word in ("-var", f"{name}={value}")]
    done = subprocess.run(
        ["packer", "build", "-color=false", "-only=amazon-ebs.image", *options, "packer/monai-label"],
        cwd=paths.ROOT,
        env={
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "CHECKPOINT_DISABLE": "1",
            "PACKER_CACHE_DIR": str(folder / "cache"),
            "PACKER_CONFIG_DIR": str(folder / "config"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def test_the_template_makes_an_ami_that_publish_reads(
    host: Host, client: Callable[..., Any], emulator: Emulator, tmp_path: Path
) -> None:
    folder = contract.put(tmp_path, "monai-label")
    said = _packer(emulator, host, tmp_path, folder / PACKER)
    ec2 = client("ec2")

    # Ansible was there, with those tags alone.
    for path in WRITTEN:
        assert "kiln" in path
        assert host.run("cat", path)
    assert "failed=0" in said
    assert host.run("test", "-d", "/run/kiln-build", "-a", "-d", f"/home/{ADMIN}") == ""

    # What publish (a) reads.
    written = manifest.Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    amis = VersionFiles(folder, written).packer_amis()
    assert list(amis) == ["us-east-1"]
    (image,) = ec2.describe_images(ImageIds=[amis["us-east-1"]])["Images"]
    assert image["State"] == "available"
    assert image["Name"] == names.ami("kiln", "monai-label", VERSION)
    tags = names.read(image["Tags"])
    assert tags[names.VERSION] == VERSION
    assert tags[names.IMAGE] == "monai-label"
    assert tags[names.RUN] == "packer-test"
    assert tags["kiln:base"] == "ami-0deb1200000000001"
    assert image["Public"] is False

    # Nothing else is left.
    states = [
        each["State"]["Name"]
        for held in ec2.describe_instances()["Reservations"]
        for each in held["Instances"]
    ]
    assert set(states) <= {"terminated", "shutting-down"}
    assert ec2.describe_key_pairs()["KeyPairs"] == []
    groups = [each["GroupName"] for each in ec2.describe_security_groups()["SecurityGroups"]]
    assert not [name for name in groups if name.startswith("packer")]

    # And Packer said nothing that AWS would not understand.
    assert [each for each in emulator.requests() if each["service"] == "ec2" and not each["valid"]] == []
