"""The upload of a disk to EBS: bytes over what is not zeros, memory by size, time over reading and hashing.

Each measurement runs in a process of its own, so that its peak of memory is its own. Of a disk every other
block holds something: random bytes where memory is measured, files of this machine where time is.
``--small`` measures disks of 32 and 256 MiB and writes no figure.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiln import errors, figures
from kiln.errors import KilnError
from launch import disk as disks
from launch import journal, upload
from launch.cloud import Cloud

COMMAND = "python -m tests.benchmarks.upload"

MIB = 2**20

REGION, SNAPSHOT = "us-east-1", "snap-0123456789abcdef0"

ROUNDS = 3
"""How often upload and reading are timed, in turn."""


@dataclass(frozen=True)
class Figures:
    """What was measured; see tests/benchmarks/figures.toml."""

    bytes_over_nonzero: float
    memory_large_over_small: float
    over_read: float


def _files() -> Iterator[bytes]:
    """Blocks full of this machine's programs and libraries, again and again."""
    folders = (Path("/usr/lib"), Path("/usr/bin"), Path(sys.prefix))
    block = b""
    while True:
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                if path.is_symlink() or not path.is_file():
                    continue
                with contextlib.suppress(OSError), path.open("rb") as stream:
                    while data := stream.read(disks.BLOCK - len(block)):
                        block += data
                        if len(block) == disks.BLOCK:
                            yield block
                            block = b""


def make_disk(path: Path, mib: int, *, random: bool) -> None:
    """Make a qcow2 of which every other block holds something.

    Parameters
    ----------
    path:
        Of the image.
    mib:
        Size of the disk, MiB.
    random:
        Random bytes, which no format makes smaller; else files, compressed as a bake compresses its disk.
    """
    size = mib * MIB
    raw = path.with_suffix(".raw")
    files = _files()
    with raw.open("wb") as stream:
        for index in range(0, size // disks.BLOCK, 2):
            stream.seek(index * disks.BLOCK)
            stream.write(os.urandom(disks.BLOCK) if random else next(files))
        stream.truncate(size)
    command = ["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2"]
    if not random:
        command += ["-c", "-o", "compression_type=zstd"]
    subprocess.run([*command, str(raw), str(path)], check=True)
    raw.unlink()


@contextlib.contextmanager
def sink() -> Iterator[str]:
    """Run the server that takes the blocks; yields its address."""
    command = [sys.executable, "-m", "tests.benchmarks.block_sink"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield child.stdout.readline().strip()
        finally:
            child.terminate()


def ask(endpoint: str, method: str = "GET") -> dict[str, Any]:
    """Ask the server what it has, or let it forget that."""
    request = urllib.request.Request(endpoint, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.load(answer))


def child(what: str, path: Path, endpoint: str) -> dict[str, Any]:
    """Measure in a process of its own.

    Parameters
    ----------
    what:
        ``upload`` or ``read``.
    path:
        The image.
    endpoint:
        Of the server.

    Returns
    -------
    dict
        ``seconds``, ``peak`` of memory in bytes with qemu-nbd's, and of ``read`` the ``sums``.
    """
    command = [sys.executable, "-m", "tests.benchmarks.upload", "--child", what, str(path)]
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "AKIAKILN111122223333",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise KilnError(f"{what} of {path} failed: {done.stderr.strip()[-300:]}", "run it by hand: --child")
    return dict(json.loads(done.stdout))


def measured(what: str, path: Path) -> dict[str, Any]:
    """Do it, in this process; parameters and result as of :func:`child`."""
    sums: dict[int, str] = {}
    cloud = _cloud()
    with disks.opened(path) as image:
        start = time.monotonic()
        if what == "upload":
            _upload(cloud, image, path.parent)
        else:
            with image.connect() as reader:
                for index in range(image.blocks):
                    sums[index] = hashlib.sha256(reader.block(index)).hexdigest()
        seconds = time.monotonic() - start
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {"seconds": seconds, "peak": sum(peaks) * 1024, "sums": sums}


def _cloud() -> Cloud:
    """An account whose client is there: the request before the first block has made it."""
    cloud = Cloud(REGION, "benchmark")
    cloud.client("ebs", REGION)
    return cloud


def _upload(cloud: Cloud, image: disks.Disk, folder: Path) -> None:
    journal.remove(folder, SNAPSHOT)
    with journal.Journal(folder, SNAPSHOT, image.blocks) as taken:
        upload.send(cloud, REGION, image, taken, SNAPSHOT, lambda _: None)
        upload.linear(taken)
    journal.remove(folder, SNAPSHOT)


def measure(folder: Path, small: int, large: int, rounds: int = ROUNDS) -> Figures:
    """Measure all three.

    Parameters
    ----------
    folder:
        For the disks.
    small, large:
        Sizes of the disks, MiB.
    rounds:
        How often times are taken.

    Returns
    -------
    Figures
        Bytes and time of a small disk with files on it, time as the median of the rounds; memory of disks
        with random bytes.

    Raises
    ------
    KilnError
        What arrived is not what is on the disk.
    """
    zeros = hashlib.sha256(disks.ZERO).hexdigest()
    ratios = []
    with sink() as endpoint:
        path = folder / "files.qcow2"
        make_disk(path, small, random=False)
        for _ in range(rounds):
            read = child("read", path, endpoint)
            ask(endpoint, "DELETE")
            sent = child("upload", path, endpoint)
            ratios.append(sent["seconds"] / read["seconds"])
        there = ask(endpoint)
        nonzero = {index: sum_ for index, sum_ in read["sums"].items() if sum_ != zeros}
        if there["sums"] != nonzero:
            raise KilnError("what arrived is not what is on the disk", "this is a bug of launch/upload.py")
        bytes_over = there["bytes"] / (len(nonzero) * disks.BLOCK)
        path.unlink()
        peaks = []
        for mib in (small, large):
            make_disk(path, mib, random=True)
            peaks.append(child("upload", path, endpoint)["peak"])
            path.unlink()
    return Figures(bytes_over, peaks[1] / peaks[0], statistics.median(ratios))


def main() -> None:
    """Run the command line.

    Raises
    ------
    KilnError
        Something could not be measured.
    """
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--small", action="store_true", help="small disks, and no figure")
    parser.add_argument("--child", nargs=2, metavar=("WHAT", "IMAGE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.child[0], Path(options.child[1]))))
        return
    sizes = (32, 256) if options.small else (1024, 8192)
    with tempfile.TemporaryDirectory(prefix="kiln-upload-") as folder:
        found = measure(Path(folder), *sizes)
    print(f"bytes over those that are not zeros  {found.bytes_over_nonzero:.4f}")
    print(f"peak of memory, large over small     {found.memory_large_over_small:.3f}")
    print(f"time over reading and hashing        {found.over_read:.2f}")
    if not options.small:
        figures.write("upload.bytes_over_nonzero", found.bytes_over_nonzero, COMMAND)
        figures.write("upload.memory_8gb_over_1gb", found.memory_large_over_small, COMMAND)
        figures.write("upload.over_read", found.over_read, COMMAND)


if __name__ == "__main__":
    sys.exit(errors.main(main))
