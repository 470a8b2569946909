"""kiln prove --ami as a whole: an instance on the emulator, a container that stands for it, and a proof."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kiln import cli, manifest, paths
from kiln.progress import Progress
from kiln.remote import Remote
from launch import names
from scripts import elsewhere, prove, sbom, seed, tree
from tests.aws.conftest import Seeded
from tests.aws.test_packer import host_root, named
from tests.aws.test_prove_ami import NOTHING, left
from tests.emulator.host import Host
from tests.unit import contract

pytestmark = [pytest.mark.slow, pytest.mark.root]

TOML = f"""
[project]
name = "kiln"
owner = "tests"

[image.tiny]
playbook = "{paths.ROOT}/tests/fixtures/tiny/tiny.yml"
template = "{paths.ROOT}/packer/monai-label"
root_gb = 8

[image.tiny.publish]
regions = ["us-east-1"]
"""

STATUS = """Package: kiln-test
Status: install ok installed
Architecture: amd64
Version: 1.0
Maintainer: tests
Description: stands for a package

"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host(host_root(), named()) as made:
        yield made


def _version(build: Path, roles: list[str]) -> Path:
    """A version whose files are what its manifest says, without a bake."""
    folder = build / "tiny" / contract.VERSION
    root = folder / "root"
    for name, text in {"var/lib/dpkg/status": STATUS, "etc/debian_version": "12.11\n"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "usr/lib/modules/6.1.0-1-cloud-amd64").mkdir(parents=True)
    (folder / "image.qcow2").write_bytes(b"not booted here")
    digest, files, size = tree.digest(root)
    made = contract.made()
    facts = made.facts.model_copy(
        update={"roles": roles, "packages": {"kiln-test": "1.0"}, "distributions": {}}
    )
    disk = made.disk.model_copy(update={"sha256": manifest.sha256_file(folder / "image.qcow2"), "bytes": 15})
    whole = made.model_copy(
        update={
            "facts": facts,
            "disk": disk,
            "root": manifest.Root(digest=digest, files=files, bytes=size),
        }
    )
    (folder / "manifest.json").write_text(whole.model_dump_json(indent=1))
    sbom.write(
        root,
        folder / "sbom.cdx.json",
        image="tiny",
        version=contract.VERSION,
        created=whole.created,
        root_digest=digest,
        input_digest=whole.input_digest,
    )
    return folder


def test_a_proof_is_written_and_nothing_left(
    host: Host, seeded: Seeded, client: Callable[..., Any], build: Path, tmp_path: Path
) -> None:
    folder = _version(build, [])
    toml = tmp_path / "kiln.toml"
    toml.write_text(TOML)
    ec2 = client("ec2")
    tags = {names.IMAGE: "tiny", names.VERSION: contract.VERSION}
    ec2.create_tags(Resources=[seeded.image], Tags=names.tags(tags))
    host.attend(ec2)
    address = f"127.0.0.1:{host.port}"
    command = ["prove", "tiny", "--ami", seeded.image, "--instance-type", "g5.xlarge", "--config", str(toml)]
    options = ["--from", "203.0.113.7/32", "--subnet", seeded.subnets[0], "--address", address]
    assert cli.run([*command, *options]) == 0
    proof = manifest.Proof.model_validate_json((folder / "proof.json").read_bytes())
    assert proof.verdict == "passed"
    assert proof.manifest_digest == manifest.sha256_file(folder / "manifest.json")
    assert proof.boot is not None
    assert proof.boot.accelerator == "ec2"
    assert 0 < proof.boot.ssh <= proof.boot.running
    assert seeded.image in proof.machine
    assert [check.id for check in proof.checks] == ["files::disk digest", "files::root digest", "files::sbom"]
    assert (build / "tiny/latest").resolve() == folder
    assert left(ec2) == NOTHING


def test_the_live_checks_run_there(host: Host, build: Path, tmp_path: Path) -> None:
    folder = _version(build, ["base"])
    key = seed.keypair(tmp_path)
    host.admit(seed.USER, key.with_suffix(".pub").read_text())
    remote = Remote("127.0.0.1", host.port, seed.USER, key, time.monotonic(), "a container")
    written = manifest.Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    (folder / "logs").mkdir()
    run = prove._Run(folder, tmp_path, Progress("live"), written, None, remote)
    with elsewhere.Host(remote, tmp_path) as there:
        prove._use(run, there, False, tmp_path)
    text = (paths.ROOT / "tests/image/live/test_base.py").read_text()
    wanted = {
        line.split("(")[0].removeprefix("def ") for line in text.splitlines() if line.startswith("def test_")
    }
    assert {check.id.rpartition("::")[2] for check in run.found} == wanted
    unable = [check for check in run.found if "could not run" in check.message or "be asked" in check.message]
    assert unable == []
    # A container is no instance, and so some refuse it; what it is asked for all the same, it says.
    assert "passed" in {check.outcome for check in run.found}
    release = next(check for check in run.found if check.id.endswith("test_release_is_the_version"))
    assert "/etc/image-release says" in release.message, (
        "the root is of another version, and the check saw it"
    )
