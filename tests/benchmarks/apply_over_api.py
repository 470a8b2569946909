"""apply.own_over_api: what ``kiln apply`` takes beside sleeping for AWS, over the time in its calls.

``python -m tests.benchmarks.apply_over_api [--small]``. The command runs as a user does it, in a process of
its own from the start of Python to its end, against the emulator with 50 ms of latency in every call: a
group of four is brought to a version by kiln.toml of the house plan, with its pauses. AWS's time is virtual:
two Describes of Auto Scaling make half a minute, so there are half as many looks as with the usual 15 seconds
and less to divide by. Where calls overlap their time counts once. ``--small`` writes no figure.
"""

from __future__ import annotations

import argparse
import json
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
from tests.aws import rollouts
from tests.aws.account import ACCOUNT, KILN_TOML, REGION, seed
from tests.aws.rollouts import FIRST, Clients
from tests.emulator.handle import Emulator, Process

COMMAND = "make bench (tests/benchmarks/apply_over_api.py)"

LATENCY = 0.05

ROUNDS = 3

CHILD = """
import json, sys
from launch.cloud import Cloud
clouds, make = [], Cloud.__init__
def kept(self, *given, **more):
    make(self, *given, **more)
    clouds.append(self)
Cloud.__init__ = kept
from kiln import cli
code = cli.run(sys.argv[2:])
ledger = clouds[0].ledger
calls = [[each.start, each.end, each.request.service] for each in ledger.calls]
told = {"slept": ledger.slept, "calls": calls}
open(sys.argv[1], "w").write(json.dumps(told))
sys.exit(code)
"""
"""Runs the command line and writes down the ledger that every Cloud keeps."""


def maker(endpoint: str) -> Clients:
    """Return what makes clients of an emulator."""

    def make(service: str, region: str = REGION, account: str = ACCOUNT) -> Any:
        return boto3.client(
            service,  # type: ignore[call-overload]
            region_name=region,
            endpoint_url=endpoint,
            aws_access_key_id=f"AKIAKILN{account}",
            aws_secret_access_key="secret",
        )

    return make


def prepare(emulator: Emulator) -> None:
    """Make an account whose group serves, with a version in its channel."""
    client = maker(emulator.endpoint)
    seeded = seed(client)
    rollouts.settle(client)
    rollouts.promote(client, rollouts.put(client, FIRST, key=seeded.keys[REGION]))


def covered(calls: list[list[float]]) -> float:
    """Seconds that lie in one call at least.

    Parameters
    ----------
    calls:
        Start and end of each.
    """
    total, until = 0.0, float("-inf")
    for start, end in sorted(calls):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def applied(endpoint: str, folder: Path) -> tuple[float, float, int]:
    """Run ``kiln apply``.

    Parameters
    ----------
    endpoint:
        Of the emulator.
    folder:
        With kiln.toml.

    Returns
    -------
    tuple of float, float and int
        Seconds of its own and of AWS together, without what it slept; seconds in calls; number of calls.

    Raises
    ------
    KilnError
        It failed.
    """
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": f"AKIAKILN{ACCOUNT}",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "KILN_CONFIG": str(folder / "kiln.toml"),
        "KILN_POLL_SECONDS": "0",
    }
    ledger = folder / "ledger.json"
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(ledger), "apply", "annotators"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    wall = time.monotonic() - start
    if done.returncode:
        raise KilnError(f"kiln apply failed: {done.stderr.strip()[-300:]}", "see tests/aws/rolling")
    told = json.loads(ledger.read_text())
    # The emulator has no price list: what is lost by asking for one, again and again, is on neither side.
    prices = covered([[start, end] for start, end, service in told["calls"] if service == "pricing"])
    calls = [[start, end] for start, end, service in told["calls"] if service != "pricing"]
    return wall - told["slept"] - prices, covered(calls), len(calls)


def measure(rounds: int, short: bool) -> float:
    """Roll the group over, each time in a copy of the same account.

    Parameters
    ----------
    rounds:
        How often.
    short:
        With short pauses.

    Returns
    -------
    float
        Median of the ratios.

    Raises
    ------
    KilnError
        A rollout failed.
    """
    ratios = []
    with tempfile.TemporaryDirectory(prefix="kiln-apply-") as made, Process() as emulator:
        folder = Path(made)
        prepare(emulator)
        (folder / "kiln.toml").write_text(KILN_TOML)
        if short:
            rollouts.hurry(folder / "kiln.toml")
        for _ in range(rounds):
            with emulator.fork() as copy:
                copy.settings(latency=LATENCY)
                own, calls, count = applied(copy.endpoint, folder)
            print(f"{own:.2f} s, {calls:.2f} s of it in {count} calls: {own / calls:.3f}", flush=True)
            ratios.append(own / calls)
    return statistics.median(ratios)


def main() -> None:
    """Run the command line.

    Raises
    ------
    KilnError
        It could not be measured.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.apply_over_api", description=__doc__)
    parser.add_argument("--small", action="store_true", help="once, with short pauses, and no figure")
    if parser.parse_args().small:
        print(f"own over API: {measure(1, short=True):.3f}")
        return
    found = measure(ROUNDS, short=False)
    print(f"own over API: {found:.3f}")
    figures.write("apply.own_over_api", found, COMMAND)


if __name__ == "__main__":
    sys.exit(errors.main(main))
