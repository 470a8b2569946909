"""Two operators: one works, the other is told who; of two that take one expired lock exactly one has it."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kiln import config, paths
from kiln.errors import Exit, KilnError, RefusedError
from launch import execute, lock
from launch.cloud import Cloud
from launch.lock import Holding, Lock
from launch.plan import Plan
from launch.records import Records, written
from tests.aws.conftest import BUCKET, REGION
from tests.emulator.handle import Emulator

KEY = "kiln/locks/annotators.json"

TAKER = """
import sys
from kiln import config
from kiln.errors import RefusedError
from launch.cloud import Cloud
from launch.lock import Lock
cloud = Cloud("us-east-1", "race")
lock = Lock(cloud, config.load(), "annotators", who=sys.argv[1])
cloud.account  # warm
print("ready", flush=True)
sys.stdin.readline()
try:
    with cloud.permit(lock.requests):
        lock.take()
    print("won", flush=True)
except RefusedError as error:
    print("refused", error.what, flush=True)
sys.stdin.readline()
lock.release()
"""


@pytest.fixture
def records(cloud: Cloud, kiln_toml: Path, client: Callable[..., Any]) -> Records:
    client("s3").create_bucket(Bucket=BUCKET)
    return Records(cloud, config.load())


def left_behind(records: Records, cloud: Cloud, minutes: float, **different: str) -> Holding:
    """A lock of a run on another machine that ends in so many minutes."""
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=minutes)
    given = {
        "name": "annotators", "who": "arn:aws:iam::1:user/ada", "doing": "kiln apply annotators",
        "machine": "elsewhere boot pid:[1]", "process": "1 1", "nonce": "0",
    } | different  # fmt: skip
    holding = Holding(since=until - timedelta(minutes=5), until=until, **given)
    with cloud.permit(records.writing):
        records.put_once(KEY, written(holding))
    return holding


def taker(who: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", TAKER, who],
        cwd=paths.ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def say(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("expired", [True, False], ids=["expired", "none"])
def test_of_two_that_race_exactly_one_wins(
    records: Records, cloud: Cloud, emulator: Emulator, expired: bool
) -> None:
    if expired:
        left_behind(records, cloud, minutes=-1)
    # Both have read before either writes.
    emulator.faults([{"service": "s3", "operation": "PutObject", "fault": "slow", "seconds": 1, "times": 2}])
    takers = [taker("ada"), taker("bob")]
    for each in takers:
        say(each)
    words = [heard(each) for each in takers]
    assert sorted(word.split()[0] for word in words) == ["refused", "won"], words
    winner = ("ada", "bob")[words.index("won")]
    assert f"annotators is locked by {winner} on " in next(w for w in words if w != "won")
    holding = records.read(KEY, Holding)
    assert holding is not None and holding.who == winner
    for each in takers:
        say(each)
        assert each.wait(20) == 0
    assert records.get(KEY) is None


def test_the_second_is_told_who_since_when_and_until_when(records: Records, cloud: Cloud) -> None:
    holding = left_behind(records, cloud, minutes=3)
    with (
        pytest.raises(RefusedError) as caught,
        lock.hold(cloud, config.load(), "annotators"),
    ):
        raise AssertionError("it was taken")
    assert caught.value.code == Exit.REFUSED
    for part in (
        "arn:aws:iam::1:user/ada on elsewhere (kiln apply annotators)",
        f"since {holding.since:%Y-%m-%d %H:%M:%S} UTC",
        f"until {holding.until:%Y-%m-%d %H:%M:%S} UTC",
    ):
        assert part in caught.value.what
    assert "\n" not in caught.value.what + caught.value.hint
    assert records.read(KEY, Holding) == holding


def test_another_target_is_another_lock(records: Records, cloud: Cloud) -> None:
    with lock.hold(cloud, config.load(), "annotators"), lock.hold(cloud, config.load(), "readers"):
        assert [each.name for each in lock.held(records)] == ["annotators", "readers"]
    assert lock.held(records) == []


def test_a_killed_run_is_gone_on_with_at_once_on_the_same_machine(records: Records, cloud: Cloud) -> None:
    killed = taker("ada")
    say(killed)
    assert heard(killed) == "won"
    with pytest.raises(RefusedError), lock.hold(cloud, config.load(), "annotators"):
        raise AssertionError("it was taken while its holder lives")
    killed.kill()
    killed.wait(10)
    said: list[str] = []
    one = Lock(cloud, config.load(), "annotators", who="bob")
    with cloud.permit(one.requests):
        one.take(said.append)
    assert "taking over what ada on " in said[0]
    one.release()
    assert records.get(KEY) is None


def test_it_is_renewed_while_it_is_held(records: Records, cloud: Cloud) -> None:
    with lock.hold(cloud, config.load(), "annotators", minutes=0.05) as one:
        first = records.read(KEY, Holding)
        time.sleep(4)
        one.check()
        later = records.read(KEY, Holding)
    assert first is not None and later is not None
    assert (later.since, later.nonce) == (first.since, first.nonce)
    assert later.until > first.until


def test_one_that_was_taken_over_ends_the_run(records: Records, cloud: Cloud) -> None:
    with lock.hold(cloud, config.load(), "annotators", minutes=0.02) as one:
        found = records.find(KEY)
        assert found is not None
        other = records.parsed(KEY, found.body, Holding).model_copy(update={"who": "bob", "nonce": "1"})
        with cloud.permit(records.writing):
            for _ in range(5):  # a renewal may come between
                try:
                    records.replace(KEY, written(other), found.etag)
                    break
                except KilnError:
                    found = records.find(KEY)
                    assert found is not None
        end = time.monotonic() + 10
        with pytest.raises(KilnError, match="was taken over by another run"):
            while time.monotonic() < end:
                one.check()
                time.sleep(0.1)
    assert records.read(KEY, Holding) == other, "what is another's is not removed"


def test_one_that_cannot_be_renewed_ends_the_run(
    records: Records, cloud: Cloud, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lock.hold(cloud, config.load(), "annotators", minutes=0.02) as one:
        emulator.faults(
            [
                {
                    "service": "s3",
                    "operation": "PutObject",
                    "fault": "error",
                    "code": "AccessDenied",
                    "times": 99,
                }
            ]
        )
        time.sleep(3)
        with pytest.raises(KilnError, match="has expired"):
            one.check()


def _plan(done: list[str]) -> Plan:
    plan = Plan("kiln apply annotators", "a title")
    plan.add("work", "do it", (), lambda _: done.append("it"))
    return plan


@pytest.fixture
def quiet() -> Console:
    return Console(quiet=True)


def test_a_plan_holds_it_and_announces_it(
    records: Records, cloud: Cloud, emulator: Emulator, quiet: Console
) -> None:
    done: list[str] = []
    plan = _plan(done)
    since = len(emulator.requests())
    one = Lock(cloud, config.load(), "annotators")
    assert execute.carry_out(plan, cloud, lock=one, console=quiet, only_plan=True) == Exit.DONE
    assert (done, emulator.mutating(since)) == ([], [])

    def looking() -> Plan:
        made = _plan(done)
        made.add("work", "look", (), lambda _: done.append(lock.held(records)[0].name))
        return made

    plan = looking()
    assert execute.carry_out(plan, cloud, lock=one, console=quiet, again=looking) == Exit.DONE
    assert done == ["it", "annotators"]
    announced = {f"{each.service}:{each.operation}" for step in plan.steps for each in step.requests}
    sent = {f"{each['service']}:{each['operation']}" for each in emulator.mutating(since)}
    assert sent == announced == {"s3:PutObject", "s3:DeleteObject"}
    assert records.get(KEY) is None


def _plan2(done: list[str]) -> Plan:
    plan = _plan(done)
    plan.add("work", "look", (), lambda _: None)
    return plan


def test_a_plan_that_is_no_longer_true_is_not_carried_out(
    records: Records, cloud: Cloud, quiet: Console
) -> None:
    done: list[str] = []
    one = Lock(cloud, config.load(), "annotators")
    with pytest.raises(RefusedError, match="no longer true"):
        execute.carry_out(_plan(done), cloud, lock=one, console=quiet, again=lambda: _plan2(done))
    assert done == []
    assert records.get(KEY) is None


def test_nothing_to_do_takes_no_lock(
    cloud: Cloud, records: Records, emulator: Emulator, quiet: Console
) -> None:
    since = len(emulator.requests())
    one = Lock(cloud, config.load(), "annotators")
    assert execute.carry_out(Plan("kiln x", "x"), cloud, lock=one, console=quiet) == Exit.DONE
    assert emulator.mutating(since) == []


@pytest.mark.parametrize(("minutes", "stays"), [(-1, False), (3, True)], ids=["killed", "another"])
def test_with_nothing_else_to_do_a_lock_that_was_left_is_removed(
    cloud: Cloud, records: Records, quiet: Console, minutes: float, stays: bool
) -> None:
    holding = left_behind(records, cloud, minutes=minutes)
    one = Lock(cloud, config.load(), "annotators")
    nothing = functools.partial(Plan, "kiln x", "x")
    assert execute.carry_out(nothing(), cloud, lock=one, console=quiet, again=nothing) == Exit.DONE
    assert records.read(KEY, Holding) == (holding if stays else None)


def test_a_plan_that_came_true_in_part_meanwhile_is_gone_on_with(
    cloud: Cloud, records: Records, quiet: Console
) -> None:
    done: list[str] = []
    one = Lock(cloud, config.load(), "annotators")
    execute.carry_out(_plan2(done), cloud, lock=one, console=quiet, again=lambda: Plan("kiln x", "a title"))
    assert done == []


def test_a_failed_step_lets_go(cloud: Cloud, records: Records, quiet: Console) -> None:
    def fail(_: object) -> None:
        raise KilnError("it broke", "mend it")

    plan = Plan("kiln x", "x")
    plan.add("work", "do it", (), fail)
    with pytest.raises(KilnError, match="it broke"):
        execute.carry_out(plan, cloud, lock=Lock(cloud, config.load(), "annotators"), console=quiet)
    assert records.get(KEY) is None
    assert [each.name for each in threading.enumerate() if each.name.startswith("lock ")] == []


@pytest.mark.parametrize("fault", ["throttle", "5xx", "reset", "lost"])
def test_faults_are_survived(records: Records, cloud: Cloud, emulator: Emulator, fault: str) -> None:
    for operation in ("PutObject", "DeleteObject", "GetObject", "HeadBucket"):
        emulator.faults([{"service": "s3", "operation": operation, "fault": fault, "times": 2}])
        with lock.hold(cloud, config.load(), "annotators"):
            assert records.get(KEY) is not None
        assert records.get(KEY) is None


def test_region(records: Records) -> None:
    assert {each.region for each in records.locking} == {REGION}
