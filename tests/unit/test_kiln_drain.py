"""The drain: its tables, and real processes beside an emulated Auto Scaling whose hook waits."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.emulator import aws, lifecycle, metadata
from tests.emulator.ours import Bench, until

from tests.emulator import standin  # isort: skip - it needs ours
from kiln_drain.gate import Gate  # isort: skip
from kiln_drain.hook import Hook  # isort: skip
from kiln_drain.machine import STATES, Facts, state  # isort: skip
from kiln_drain.stop import MORE, stop  # isort: skip
from kiln_instance.aws import Aws  # isort: skip
from kiln_instance.settings import Settings  # isort: skip

LIMITS = Settings(drain=100, training=1000, stop=50, spot_margin=10)


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        (Facts(), "serving"),
        (Facts(requests=3), "serving"),
        (Facts(tasks=1), "training"),
        (Facts("termination", requests=1), "draining"),
        (Facts("termination", idle=1), "draining"),
        (Facts("termination", idle=2), "drained"),
        (Facts("termination", waited=99, requests=1), "draining"),
        (Facts("termination", waited=100, requests=1), "overdue"),
        (Facts("termination", waited=999, tasks=1), "draining"),
        (Facts("termination", waited=1000, tasks=1), "overdue"),
        (Facts("spot", waited=5, left=11, tasks=1), "draining"),
        (Facts("spot", waited=5, left=10, tasks=1), "overdue"),
        (Facts("stop", waited=50, tasks=1), "overdue"),
        (Facts("termination", idle=9, completed=True), "gone"),
        (Facts("termination", requests=1, completed=True), "gone"),
    ],
)
def test_facts_make_a_state(facts: Facts, name: str) -> None:
    assert state(facts, LIMITS).name == name


def test_of_every_state_the_actions_agree() -> None:
    for row in STATES:
        assert not (row.heartbeat and row.complete), row.name
        assert row.closed or row.protected is not None, row.name
        assert row.closed is (row.protected is None), row.name
    assert [row.name for row in STATES if row.protected] == ["training"]


def test_a_gate_remembers_over_a_restart(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "closed")
    assert (gate.reason, gate.waited, gate.completed) == ("", 0.0, False)
    gate.note(reason="spot", spot_end=5.0)
    time.sleep(0.05)
    again = Gate(tmp_path / "closed")
    assert again.reason == "spot" and again.waited >= 0.05 and not again.completed
    again.note(completed=True)
    assert Gate(tmp_path / "closed").completed
    assert (tmp_path / "closed").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_gate_that_cannot_be_read_is_closed(tmp_path: Path, text: str) -> None:
    (tmp_path / "closed").write_text(text)
    assert Gate(tmp_path / "closed").reason == "termination"


class Nginx:
    """Stands for nginx's stub_status, which no test here starts: it says what the test sets."""

    def __init__(self, path: Path) -> None:
        self.held = 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                channel, _ = self.listener.accept()
            except OSError:
                return
            with channel:
                channel.recv(4096)
                text = "Active connections: 9 \nserver accepts handled requests\n 9 9 9 \n"
                text += f"Reading: 0 Writing: {self.held + 1} Waiting: 5 \n"
                channel.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())


def test_a_stop_waits_for_what_nginx_holds(tmp_path: Path) -> None:
    nginx = Nginx(tmp_path / "nginx.sock")
    nginx.held = 1
    settings = Settings(
        table=str(tmp_path / "inflight"), stopping=str(tmp_path / "closed"), cgroup=str(tmp_path / "none"),
        nginx=str(tmp_path / "nginx.sock"), stop=30,
    )  # fmt: skip
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        assert (tmp_path / "closed").exists()
        looks.append(seconds)
        nginx.held = 1 if len(looks) < 5 else 0

    assert stop(settings, sleep) == "drained"
    assert len(looks) == 6
    nginx.listener.close()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with aws.serve() as found:
        yield found


@pytest.fixture
def cloud(endpoint: str) -> aws.Cloud:
    return aws.fresh(endpoint)


@pytest.fixture
def imds(tmp_path: Path, cloud: aws.Cloud) -> Iterator[metadata.Service]:
    with metadata.serve(tmp_path / "imds.log") as service:
        service.instance(cloud.instance, "InService")
        lifecycle.RECORD.on_terminating = lambda instance: service.instance(instance, "Terminated")
        yield service


@pytest.fixture
def bench(tmp_path: Path, cloud: aws.Cloud, imds: metadata.Service) -> Iterator[Bench]:
    made = Bench(tmp_path)
    made.settings |= {"METADATA": imds.address, "ENDPOINT": cloud.endpoint, "INTERVAL": "0.2"}
    yield made
    made.end()


def closed(bench: Bench) -> bool:
    return (bench.drain / "closed").exists()


def status(bench: Bench) -> dict[str, Any]:
    return json.loads((bench.drain / "status.json").read_text())  # type: ignore[no-any-return]


def test_an_inference_in_flight_ends_with_its_answer(bench: Bench, cloud: aws.Cloud) -> None:
    cloud.hook(30)
    bench.serve()
    bench.start("kiln_drain", "watch")
    until(lambda: (bench.drain / "status.json").exists())
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(bench.ask, "POST", "/infer/spleen?4")
        time.sleep(0.3)
        cloud.terminate()
        until(lambda: closed(bench))
        assert not asked.done()
        assert cloud.state() == "Terminating:Wait"
        assert asked.result(30) == (200, '{"mask": "of 4"}')
        assert not lifecycle.RECORD.made("CompleteLifecycleAction")
    until(lambda: cloud.state() == "")
    assert lifecycle.RECORD.ended == {cloud.instance: "CONTINUE"}
    (request,) = lifecycle.RECORD.made("CompleteLifecycleAction")
    assert request == {
        "LifecycleHookName": aws.HOOK,
        "AutoScalingGroupName": aws.GROUP,
        "InstanceId": cloud.instance,
        "LifecycleActionResult": "CONTINUE",
    }
    until(lambda: json.loads((bench.drain / "status.json").read_text())["state"] == "gone")


@pytest.mark.slow
def test_a_training_delays_the_end_by_heartbeats(bench: Bench, cloud: aws.Cloud) -> None:
    cloud.hook(12)
    bench.serve()
    bench.start("kiln_drain", "watch")
    assert bench.ask("POST", "/train/600")[0] == 200
    until(cloud.protected)
    cloud.terminate()
    # A third of the timeout lies between two: by the fifth the hook's own would have ended it.
    until(lambda: len(lifecycle.RECORD.made("RecordLifecycleActionHeartbeat")) >= 5)
    assert cloud.state() == "Terminating:Wait"
    assert not lifecycle.RECORD.made("CompleteLifecycleAction")
    (training,) = (bench.runtime / "cgroup.procs").read_text().split()
    os.kill(int(training), signal.SIGKILL)
    until(lambda: cloud.state() == "")
    assert lifecycle.RECORD.ended == {cloud.instance: "CONTINUE"}


def test_without_heartbeats_the_emulated_hook_does_end(cloud: aws.Cloud) -> None:
    cloud.hook(1)
    cloud.terminate()
    assert cloud.state() == "Terminating:Wait"
    time.sleep(1.1)
    assert cloud.state() == ""
    assert lifecycle.RECORD.ended == {cloud.instance: "timeout"}


@pytest.mark.slow
def test_protection_comes_with_a_training_and_goes_with_it(bench: Bench, cloud: aws.Cloud) -> None:
    bench.serve()
    bench.start("kiln_drain", "watch")
    bench.ask("POST", "/train/3")
    until(cloud.protected)
    assert not closed(bench)
    until(lambda: not cloud.protected())
    assert [call["ProtectedFromScaleIn"] for call in lifecycle.RECORD.made("SetInstanceProtection")] == [
        True,
        False,
    ]


def test_a_batch_inference_is_work_as_a_training_is(bench: Bench, cloud: aws.Cloud) -> None:
    """It runs on after its request was answered."""
    cloud.hook(60)
    bench.serve()
    bench.start("kiln_drain", "watch")
    assert bench.ask("POST", "/batch_infer/600")[0] == 200
    until(cloud.protected)
    cloud.terminate()
    until(lambda: len(lifecycle.RECORD.made("RecordLifecycleActionHeartbeat")) >= 1)
    until(lambda: status(bench)["state"] == "draining")
    assert (status(bench)["trainings"], status(bench)["batch_inferences"]) == (0, 1)
    (task,) = (bench.runtime / "cgroup.procs").read_text().split()
    os.kill(int(task), signal.SIGKILL)
    until(lambda: cloud.state() == "")
    assert lifecycle.RECORD.ended == {cloud.instance: "CONTINUE"}


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on(bench: Bench, cloud: aws.Cloud, imds: metadata.Service) -> None:
    cloud.hook(15)
    bench.serve()
    watcher = bench.start("kiln_drain", "watch")
    bench.ask("POST", "/train/8")
    until(lambda: (bench.state / "protection.json").exists())
    cloud.terminate()
    until(lambda: len(lifecycle.RECORD.made("RecordLifecycleActionHeartbeat")) >= 1)
    os.kill(watcher.pid, signal.SIGKILL)
    watcher.wait()
    assert closed(bench)
    imds.faults = 10**6  # from now on it knows by the gate alone that it drains, and for whom
    bench.start("kiln_drain", "watch")
    until(lambda: cloud.state() == "")
    assert lifecycle.RECORD.ended == {cloud.instance: "CONTINUE"}
    assert len(lifecycle.RECORD.made("CompleteLifecycleAction")) == 1


def test_a_spot_notice_drains_and_ends_in_time(bench: Bench, imds: metadata.Service) -> None:
    bench.settings["SPOT_MARGIN"] = "3"
    bench.serve()
    bench.start("kiln_drain", "watch")
    bench.ask("POST", "/train/60")
    until(lambda: (bench.drain / "status.json").exists())
    end = time.time() + 6
    imds.spot(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end)))
    until(lambda: closed(bench))
    until(lambda: json.loads((bench.drain / "status.json").read_text())["state"] == "overdue")
    assert end - time.time() > 1


def test_a_hook_that_begins_after_spots_notice_is_completed(
    bench: Bench, cloud: aws.Cloud, imds: metadata.Service
) -> None:
    cloud.hook(60)
    bench.serve()
    bench.start("kiln_drain", "watch")
    imds.spot(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 120)))
    # Nothing is left to do, and AWS says three times that no action of the hook is under way.
    until(lambda: (bench.drain / "status.json").exists() and status(bench)["state"] == "gone", 90)
    assert not lifecycle.RECORD.ended
    cloud.terminate()
    until(lambda: cloud.state() == "")
    assert lifecycle.RECORD.ended == {cloud.instance: "CONTINUE"}
    until(lambda: status(bench)["state"] == "gone")


def test_an_instance_of_a_warm_pool_ends_by_its_hook(
    bench: Bench, cloud: aws.Cloud, imds: metadata.Service
) -> None:
    lifecycle.RECORD.on_terminating = lambda instance: imds.instance(instance, "Warmed:Terminated")
    imds.instance(cloud.instance, "Warmed:Running")
    cloud.hook(60)
    bench.serve()
    bench.start("kiln_drain", "watch")
    until(lambda: (bench.drain / "status.json").exists())
    assert not closed(bench)
    cloud.terminate()
    until(lambda: cloud.state() == "")
    assert lifecycle.RECORD.ended == {cloud.instance: "CONTINUE"}


def test_systemctl_stop_lets_an_inference_end(bench: Bench) -> None:
    server = bench.serve()
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(bench.ask, "POST", "/infer/spleen?3")
        time.sleep(0.3)
        stopping = bench.start("kiln_drain", "stop")
        until(lambda: (bench.runtime / "closed").exists())
        assert stopping.wait(30) == 0
        assert asked.result(5) == (200, '{"mask": "of 3"}')
    assert server.poll() is None
    assert stopping.stdout and "waiting for 1 requests" in stopping.stdout.read()


def test_a_stop_asks_systemd_for_time_as_long_as_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its settings may let an inference last longer than the limit that the unit was baked with."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        cgroup = tmp_path / "procs"
        with standin.task("train", "import time; time.sleep(60)") as training:
            cgroup.write_text(f"{training.pid}\n")
            looks: list[float] = []

            def sleep(seconds: float) -> None:
                looks.append(seconds)
                if len(looks) == 3:
                    training.kill()
                    training.wait()

            known = Settings(
                table=str(tmp_path / "inflight"), stopping=str(tmp_path / "closed"), cgroup=str(cgroup),
                nginx=str(tmp_path / "nginx.sock"), stop=30,
            )  # fmt: skip
            assert stop(known, sleep) == "drained"
        said = [heard.recv(200) for _ in looks]
    assert set(said) == {f"EXTEND_TIMEOUT_USEC={MORE * 1_000_000}".encode()}
    assert len(looks) >= 3 and max(looks) < MORE / 2


def test_systemctl_stop_has_its_limit(bench: Bench) -> None:
    bench.settings["STOP"] = "1"
    bench.serve()
    bench.ask("POST", "/train/600")
    stopping = bench.start("kiln_drain", "stop")
    assert stopping.wait(120) == 0
    assert stopping.stdout and "overdue" in stopping.stdout.read()


def test_a_dead_server_is_not_waited_for(bench: Bench) -> None:
    server = bench.serve()
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(bench.ask, "POST", "/infer/spleen?60")
        time.sleep(0.3)
        server.kill()
        server.wait()
        assert asked.exception(10)
    assert bench.start("kiln_drain", "stop").wait(10) == 0


def test_off_ec2_it_watches_and_says_so(bench: Bench) -> None:
    bench.settings["METADATA"] = "127.0.0.1:9"
    bench.serve()
    bench.start("kiln_drain", "watch")
    until(lambda: (bench.drain / "status.json").exists())
    said = json.loads((bench.drain / "status.json").read_text())
    assert said["state"] == "serving" and said["where"].startswith("not on EC2: no metadata service at")
    shown = subprocess.run(
        [*bench.processes[-1].args[:-1], "status"], env=bench.environment(), capture_output=True, text=True
    )  # type: ignore[operator]
    assert shown.returncode == 0 and "not on EC2" in shown.stdout


def hook(cloud: aws.Cloud, tmp_path: Path) -> Hook:
    made = Aws(Settings(python=os.sys.executable).python, aws.REGION, 30, cloud.endpoint)  # type: ignore[attr-defined]
    return Hook(Settings(), made, cloud.instance, tmp_path / "protection.json")


def test_somebody_elses_protection_stays(cloud: aws.Cloud, tmp_path: Path) -> None:
    arguments = {"InstanceIds": [cloud.instance], "AutoScalingGroupName": aws.GROUP}
    cloud.client("autoscaling").set_instance_protection(**arguments, ProtectedFromScaleIn=True)
    ours = hook(cloud, tmp_path)
    for wanted in (True, True, False):
        ours.protect(wanted)
    assert cloud.protected()
    assert len(lifecycle.RECORD.made("SetInstanceProtection")) == 1


def test_a_protection_that_failed_is_asked_for_again(cloud: aws.Cloud, tmp_path: Path) -> None:
    ours = hook(cloud, tmp_path)
    now = [0.0]
    ours.clock = lambda: now[0]
    lifecycle.RECORD.fail["SetInstanceProtection"] = 1
    ours.protect(True)
    assert not cloud.protected() and ours.aws.failed == 1
    ours.protect(True)  # not yet again
    assert len(lifecycle.RECORD.made("SetInstanceProtection")) == 1
    now[0] += 11
    ours.protect(True)
    assert cloud.protected()
    # Another process of ours knows whose it is.
    hook(cloud, tmp_path).protect(False)
    assert not cloud.protected()


def test_a_group_without_the_hook_is_not_waited_for(cloud: aws.Cloud, tmp_path: Path) -> None:
    ours = hook(cloud, tmp_path)
    ours.heartbeat()
    assert ours.complete() and not lifecycle.RECORD.made("CompleteLifecycleAction")


def test_an_action_that_has_ended_is_complete(cloud: aws.Cloud, tmp_path: Path) -> None:
    """Not at once: the metadata service may have heard of it before the action began."""
    cloud.hook(30)
    ours, now = hook(cloud, tmp_path), [0.0]
    ours.clock = lambda: now[0]
    for done in (False, False, True):
        assert ours.complete() is done
        now[0] += 11
    assert len(lifecycle.RECORD.made("CompleteLifecycleAction")) == 3


def test_a_completion_that_failed_is_asked_for_again(cloud: aws.Cloud, tmp_path: Path) -> None:
    cloud.hook(30)
    cloud.terminate()
    ours = hook(cloud, tmp_path)
    now = [0.0]
    ours.clock = lambda: now[0]
    lifecycle.RECORD.fail["CompleteLifecycleAction"] = 1
    assert not ours.complete() and not ours.complete()
    now[0] += 11
    assert ours.complete()
    assert lifecycle.RECORD.ended == {cloud.instance: "CONTINUE"}
