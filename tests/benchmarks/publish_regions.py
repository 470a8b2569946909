"""``kiln publish`` to 20 regions over the same to one: on the emulator, with 50 ms of latency in every call.

``--small`` compares three regions with one, once, and writes no figure.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import boto3

from kiln import errors, figures
from kiln.errors import KilnError
from tests.aws import versions
from tests.aws.conftest import ACCOUNT, BUCKET, OTHER, ROOT, shared_key
from tests.emulator.handle import Emulator, Process

COMMAND = "python -m tests.benchmarks.publish_regions"

LATENCY = 0.05

POLL = 0.5
"""Seconds between two looks at what AWS works on; with the usual 15, waiting would be all there is."""

REGIONS = [
    *(f"us-{each}" for each in ("east-1", "east-2", "west-1", "west-2")),
    *(f"eu-{each}" for each in ("west-1", "west-2", "west-3", "central-1", "north-1", "south-1")),
    *(f"ap-{each}" for each in ("south-1", "southeast-1", "southeast-2", "southeast-3", "east-1")),
    *(f"ap-northeast-{each}" for each in (1, 2, 3)),
    *("ca-central-1", "sa-east-1"),
]

ROUNDS = 3

BLOCKS = 512
"""Of the disk, every other one full: 256 MiB. A real image has a hundred times as many."""


def prepare(folder: Path) -> Path:
    """Put a version with its disk into a build folder.

    Parameters
    ----------
    folder:
        An empty one.

    Returns
    -------
    Path
        The build folder.
    """
    build = folder / "build"
    versions.put(build, full=range(0, BLOCKS, 2), blocks=BLOCKS, zeros=())
    return build


def timed(emulator: Emulator, folder: Path, build: Path, regions: list[str]) -> float:
    """Publish to an account that has nothing but its bucket and its keys.

    Parameters
    ----------
    emulator:
        Is emptied first.
    folder:
        For kiln.toml.
    build:
        As :func:`prepare` returns it.
    regions:
        Where to.

    Returns
    -------
    float
        Seconds of the command, from its start to its end.

    Raises
    ------
    KilnError
        It did not publish.
    """
    emulator.reset()
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": emulator.endpoint,
        "AWS_ACCESS_KEY_ID": f"AKIAKILN{ACCOUNT}",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "KILN_BUILD": str(build),
        "KILN_CONFIG": str(folder / "kiln.toml"),
        "KILN_POLL_SECONDS": str(POLL),
    }
    _client(emulator, "s3", "us-east-1").create_bucket(Bucket=BUCKET)
    for region in regions:
        shared_key(_client(emulator, "kms", region))
        # The emulator loads a region's AMIs at its first request.
        _client(emulator, "ec2", region).describe_images(Owners=["self"])
    (folder / "kiln.toml").write_text(_kiln_toml(regions))
    emulator.settings(latency=LATENCY)
    kiln = Path(sys.executable).parent / "kiln"
    start = time.monotonic()
    done = subprocess.run(
        [kiln, "publish", "monai-label"], env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - start
    emulator.settings(latency=0)
    if done.returncode:
        raise KilnError(f"kiln publish failed: {done.stderr.strip()[-300:]}", "see tests/aws/test_publish.py")
    made = [
        image
        for region in regions
        for image in _client(emulator, "ec2", region).describe_images(Owners=["self"])["Images"]
        if image["Name"].startswith("kiln-")
    ]
    if len(made) != len(regions):
        raise KilnError(f"{len(made)} AMIs in {len(regions)} regions", "see tests/aws/test_publish.py")
    return seconds


def _client(emulator: Emulator, service: str, region: str) -> Any:
    return boto3.client(
        service,  # type: ignore[call-overload]
        region_name=region,
        endpoint_url=emulator.endpoint,
        aws_access_key_id=f"AKIAKILN{ACCOUNT}",
        aws_secret_access_key="secret",
    )


def _kiln_toml(regions: list[str]) -> str:
    return f"""
[project]
name = "kiln"
owner = "benchmark"
bucket = "{BUCKET}"

[image.monai-label]
playbook = "{ROOT}/ansible/playbooks/monai_label.yml"
template = "{ROOT}/packer/monai-label"

[image.monai-label.publish]
regions = {regions}
share_with = ["{OTHER}"]
kms_key = "alias/kiln"
""".replace("'", '"')


def measure(many: list[str], rounds: int) -> float:
    """Publish to one region and to many, in turn.

    Parameters
    ----------
    many:
        The regions; the first is the one.
    rounds:
        How often.

    Returns
    -------
    float
        Median of many over one.
    """
    ratios = []
    with tempfile.TemporaryDirectory(prefix="kiln-regions-") as folder, Process() as emulator:
        build = prepare(Path(folder))
        for _ in range(rounds):
            one = timed(emulator, Path(folder), build, many[:1])
            all_of_them = timed(emulator, Path(folder), build, many)
            print(f"one region {one:.1f} s, {len(many)} regions {all_of_them:.1f} s", flush=True)
            ratios.append(all_of_them / one)
    return statistics.median(ratios)


def main() -> None:
    """Run the command line.

    Raises
    ------
    KilnError
        It could not be measured.
    """
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--small", action="store_true", help="three regions, once, and no figure")
    if parser.parse_args().small:
        print(f"3 regions over 1: {measure(REGIONS[:3], 1):.2f}")
        return
    found = measure(REGIONS, ROUNDS)
    print(f"{len(REGIONS)} regions over 1: {found:.2f}")
    figures.write("publish.regions20_over_1", found, COMMAND)


if __name__ == "__main__":
    sys.exit(errors.main(main))
