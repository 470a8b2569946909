"""What is found and what is said of it: real processes that block, stop and die; limits of seconds, not
minutes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.emulator import aws, lifecycle, metadata
from tests.emulator.ours import Bench, until

from tests.emulator import standin  # isort: skip - it needs ours
from kiln_health import look as look_  # isort: skip
from kiln_health.__main__ import Health  # isort: skip
from kiln_health.answer import answer  # isort: skip
from kiln_health.child import Child, Result  # isort: skip
from kiln_health.judge import CHECKS, judge  # isort: skip
from kiln_health.look import Look, Observer  # isort: skip
from kiln_health.publish import data  # isort: skip
from kiln_inflight import Request, Seen  # isort: skip
from kiln_instance import server  # isort: skip
from kiln_instance import settings as settings_  # isort: skip
from kiln_instance.settings import Settings, WrongError  # isort: skip
from kiln_store import tasks  # isort: skip

LIMITS = Settings(request=600, disk_free=1000)

IDLE = Seen(7, 70, True, True, (), 0, 5, 0, 0.0)
"""A server without work."""

SOUND = Look(
    seen=IDLE, before=IDLE, process=server.Process("S", 1.0), answered=True,
    studies_demanded=True, studies_kind="nfs4", studies=Result("1 1 1 1"),
    disk_free=(10**10, 10**6), models_wanted=("segmentation_spleen",), models=("segmentation_spleen",),
    auth=401, gpus_bus=1, gpus_worked=1, gpu=Result("5, 100, 15360"),
)  # fmt: skip


def working(seconds: float) -> Seen:
    return replace(IDLE, requests=(Request("infer", seconds),))


AWAY = {"studies": Result("no answer within 5 s", late=True)}

SILENT = {"answered": False}
STOPPED = {**SILENT, "process": server.Process("T", 1)}
FAILED = Result("No devices were found", failed=True)

PLANTED: list[tuple[str, dict[str, Any], str, bool, bool, bool]] = [
    # what is planted, the look, the check that finds it, healthy, ready, curable
    ("silent and idle", {"answered": False}, "process", False, False, True),
    ("at work for too long", {**SILENT, "seen": working(700)}, "process", False, False, True),
    ("stopped at work", {**STOPPED, "seen": working(5)}, "process", False, False, True),
    ("a zombie", {**SILENT, "process": server.Process("Z", 1)}, "process", False, False, True),
    ("stopped, and the studies away", {**STOPPED, **AWAY}, "process", False, False, True),
    ("a GPU off the bus", {"gpus_bus": 0, "gpu": FAILED}, "gpu", False, False, True),
    ("one GPU of two", {"gpus_worked": 2}, "gpu", False, False, True),
    ("nvidia-smi hangs", {"gpu": Result("no answer within 20 s", late=True)}, "gpu", False, False, True),
    ("a driver that never worked", {"gpus_worked": 0, "gpu": FAILED}, "gpu", False, False, False),
    ("no server", {"seen": None, "before": None, "answered": False}, "server", True, False, False),
    ("a dead server", {"seen": replace(IDLE, alive=False), "answered": False}, "server", True, False, False),
    ("a start", {"seen": replace(IDLE, ready=False), "answered": False}, "server", True, False, False),
    ("EFS away", AWAY, "studies", True, False, False),
    ("EFS not mounted", {"studies_kind": "", "studies": None}, "studies", True, False, False),
    ("another file system", {"studies_kind": "tmpfs"}, "studies", True, False, False),
    ("a model that is missing", {"models": ("deepedit",)}, "models", True, False, False),
    ("models nobody has heard of", {"models": None}, "models", True, False, False),
    ("a full disk", {"disk_free": (999, 10**6)}, "disk", True, False, False),
    ("no inodes", {"disk_free": (10**10, 3)}, "disk", True, False, False),
    ("a disk that does not answer", {"disk_free": None}, "disk", True, False, False),
    ("log-in that is at a loss", {"auth": 503}, "auth", True, False, False),
    ("log-in that does not answer", {"auth": 0}, "auth", True, False, False),
    ("a gate", {"gate": "/run/kiln-drain/closed"}, "gate", True, False, False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "check", "healthy", "ready", "curable"),
    [row[1:] for row in PLANTED],
    ids=[row[0] for row in PLANTED],
)
def test_what_is_planted_is_found(
    change: dict[str, Any], check: str, healthy: bool, ready: bool, curable: bool
) -> None:
    verdict = judge(replace(SOUND, **change), LIMITS)
    assert check in verdict.findings
    assert (verdict.healthy, verdict.ready, bool(verdict.curable)) == (healthy, ready, curable)
    finding = verdict.findings[check]
    assert finding.what and finding.do and "\n" not in finding.what + finding.do


def test_every_check_has_a_planted_defect() -> None:
    assert {row[2] for row in PLANTED} == {check.name for check in CHECKS}


EXCUSED: dict[str, dict[str, Any]] = {
    "sound": {},
    "an inference of a minute": {"answered": False, "before": working(60), "seen": working(60)},
    "an inference that ended while it was asked": {"answered": False, "before": working(60)},
    "an inference that began and ended meanwhile": {"answered": False, "seen": replace(IDLE, begun=6)},
    "an inference that the studies held up": {"answered": False, "seen": working(700), "calm": 30.0},
    "no GPU and none promised": {"gpus_bus": 0, "gpus_worked": 0, "gpu": None},
    "no log-in in the image": {"auth": None},
    "studies on the disk": {"studies_demanded": False, "studies_kind": "", "studies": None},
}


@pytest.mark.parametrize("change", EXCUSED.values(), ids=EXCUSED)
def test_what_is_well_is_not_found(change: dict[str, Any]) -> None:
    assert judge(replace(SOUND, **change), LIMITS).findings == {}


def test_a_server_that_waits_for_efs_is_not_blamed() -> None:
    verdict = judge(replace(SOUND, answered=False, **AWAY), LIMITS)
    assert (verdict.healthy, set(verdict.findings)) == (True, {"studies"})


def test_a_gpu_that_is_promised_by_name_must_be_there() -> None:
    without = replace(SOUND, gpus_bus=0, gpus_worked=0, gpu=None)
    assert not judge(without, replace(LIMITS, gpu_wanted="promised")).healthy
    assert judge(replace(SOUND, gpus_worked=2), replace(LIMITS, gpu_wanted="none")).healthy


def test_answers() -> None:
    now = replace(SOUND, when=time.time())  # SOUND is as old as this module
    sound, away = judge(now, LIMITS), judge(replace(now, **AWAY), LIMITS)
    assert answer("/healthz", sound, LIMITS, {})[0] == answer("/readyz", sound, LIMITS, {})[0] == 200
    status, body = answer("/readyz", away, LIMITS, {})
    assert (status, body["status"], body["reasons"][0]["check"]) == (503, "not ready", "studies")
    assert answer("/healthz", away, LIMITS, {})[0] == 200
    assert answer("/", sound, LIMITS, {})[0] == 404
    assert answer("/healthz", None, LIMITS, {})[0] == 503
    old = replace(sound, look=replace(SOUND, when=time.time() - 1000))
    assert answer("/healthz", old, LIMITS, {})[0] == 503


def test_metrics_of_a_verdict() -> None:
    found = replace(
        SOUND, seen=working(5), waiting=3, gpu=Result("50, 100, 200\n[N/A], 50, 200"), gpus_worked=2
    )
    metrics = {name: (value, unit) for name, value, unit in data(judge(found, LIMITS), 30.0, 4, 60.0)}
    assert metrics["QueueDepth"] == (3, "Count")
    assert metrics["RequestsInFlight"] == (1, "Count")
    assert metrics["BusyRatio"] == (50, "Percent")
    assert metrics["LabelsSaved"] == (4, "Count")
    assert metrics["GPUUtilization"] == (50, "Percent")
    assert metrics["GPUMemoryUtilization"] == (37.5, "Percent")
    assert (metrics["Healthy"][0], metrics["Ready"][0]) == (1, 1)
    without = data(judge(replace(SOUND, gpu=None, gpus_worked=0, gpus_bus=0), LIMITS), 0, 0, 60)
    assert not any(name.startswith("GPU") for name, *_ in without)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"KILN_HEALTH_INTERVAL": "x"}, "KILN_HEALTH_INTERVAL=x is no number"),
        ({"KILN_HEALTH_PORT": "0"}, "is not above 0"),
        ({"KILN_HEALTH_GPU_WANTED": "maybe"}, "is not one of auto, promised, none"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_named(environment: dict[str, str], words: str) -> None:
    with pytest.raises(WrongError, match=words):
        settings_.load(environment)


def test_settings_are_read() -> None:
    found = settings_.load({"KILN_HEALTH_INTERVAL": "2.5", "KILN_HEALTH_PORT": "9", "OTHER": "x"})
    assert (found.interval, found.port, found.findings) == (2.5, 9, 3)


def test_a_child_that_hangs_is_not_waited_for_and_has_no_second(tmp_path: Path) -> None:
    # A pipe without a writer: who opens it waits, as on a file system that is away. Killed, it dies, which
    # a process in the kernel's own wait for NFS need not: it is not waited for, since it still runs.
    os.mkfifo(tmp_path / "fifo")
    child = Child(["cat", str(tmp_path / "fifo")], 3)
    assert child.look() is None
    first = child._process
    assert child.look() is None and child._process is first
    assert first is not None and first.poll() is None
    time.sleep(3.1)
    found = child.look()
    assert found and found.late and not found.ok
    until(lambda: child.look() and child._process is not first)
    # And well again, once it answers.
    child.command = ["echo", "4"]
    until(lambda: (found := child.look()) and found.ok and found.text == "4")


def test_a_child_that_cannot_be_killed_has_no_second(monkeypatch: pytest.MonkeyPatch) -> None:
    child = Child(["sleep", "60"], 0.1)
    child.look()
    first = child._process
    assert first
    monkeypatch.setattr(first, "kill", lambda: None)
    time.sleep(0.2)
    for _ in range(5):
        found = child.look()
        assert found and found.late and child._process is first
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: child.look() and child._process is not first)


def test_a_child_that_fails_says_why() -> None:
    for command, words in (
        (["sh", "-c", "echo first; echo GPU is lost >&2; exit 3"], "GPU is lost"),
        (["false"], "exit code 1"),
        (["/nowhere/x"], "cannot be run"),
    ):
        child = Child(command, 5, every=100)
        until(lambda child=child: child.look())  # type: ignore[misc]
        assert child.result and child.result.failed and words in child.result.text


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    made.settings |= {"INTERVAL": "0.2", "PROBE": "0.5", "REQUEST": "5", "FINDINGS": "3"}
    yield made
    made.end()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with aws.serve() as found:
        yield found


@pytest.fixture
def cloud(endpoint: str) -> aws.Cloud:
    return aws.fresh(endpoint)


@pytest.fixture
def on_ec2(bench: Bench, cloud: aws.Cloud, tmp_path: Path) -> Iterator[metadata.Service]:
    with metadata.serve(tmp_path / "imds.log") as service:
        service.instance(cloud.instance, "InService")
        bench.settings |= {"METADATA": service.address, "ENDPOINT": cloud.endpoint}
        yield service


def said(bench: Bench, path: str = "/healthz") -> dict[str, Any]:
    return json.loads(bench.ask_health(path)[1])  # type: ignore[no-any-return]


def test_a_long_inference_is_never_unhealthy(bench: Bench) -> None:
    bench.serve()
    bench.start("kiln_health")
    until(lambda: bench.ask_health("/readyz")[0] == 200)
    statuses = set()
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(bench.ask, "POST", "/infer/spleen?4")
        busy = False
        while not asked.done():
            statuses |= {bench.ask_health(path)[0] for path in ("/healthz", "/readyz")}
            busy |= said(bench)["busy"]["explains_silence"] and not said(bench)["busy"]["answered_probe"]
            time.sleep(0.1)
        assert asked.result()[0] == 200
    assert statuses == {200} and busy


@pytest.mark.slow
def test_an_inference_beyond_the_limit_is_found(bench: Bench) -> None:
    bench.serve()
    bench.start("kiln_health")
    until(lambda: bench.ask_health("/healthz")[0] == 200)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(bench.ask, "POST", "/infer/spleen?12")
        until(lambda: bench.ask_health("/healthz")[0] == 503)
        assert not asked.done()
        (reason,) = said(bench)["reasons"]
        assert "works on no request younger than 5 s" in reason["what"]
        asked.result()
    until(lambda: bench.ask_health("/healthz")[0] == 200)


def test_a_stopped_server_is_told_to_auto_scaling(
    bench: Bench, cloud: aws.Cloud, on_ec2: metadata.Service
) -> None:
    process = bench.serve()
    bench.start("kiln_health")
    until(lambda: bench.ask_health("/readyz")[0] == 200)
    process.send_signal(signal.SIGSTOP)
    until(lambda: bench.ask_health("/healthz")[0] == 503)
    # By its state, and not only after a time of silence.
    assert "is stopped" in said(bench)["reasons"][0]["what"]
    until(lambda: lifecycle.RECORD.made("SetInstanceHealth"))
    assert lifecycle.RECORD.made("SetInstanceHealth") == [
        {"InstanceId": cloud.instance, "HealthStatus": "Unhealthy", "ShouldRespectGracePeriod": True}
    ]
    time.sleep(1)
    assert len(lifecycle.RECORD.made("SetInstanceHealth")) == 1
    process.send_signal(signal.SIGCONT)
    until(lambda: bench.ask_health("/readyz")[0] == 200)


@pytest.mark.parametrize("target", ["", "Standby", "Terminated"])
def test_an_instance_that_is_not_in_service_is_not_told_of(
    bench: Bench, on_ec2: metadata.Service, target: str
) -> None:
    on_ec2.tree[metadata.TARGET] = target
    if not target:
        del on_ec2.tree[metadata.TARGET]
    process = bench.serve()
    bench.start("kiln_health")
    until(lambda: bench.ask_health("/readyz")[0] == 200)
    process.send_signal(signal.SIGSTOP)
    until(lambda: bench.ask_health("/healthz")[0] == 503 and said(bench)["aws"]["health"]["withheld"])
    assert (target or "no Auto Scaling group") in said(bench)["aws"]["health"]["withheld"]
    assert not lifecycle.RECORD.made("SetInstanceHealth")


def test_off_ec2_it_says_so(bench: Bench) -> None:
    process = bench.serve()
    bench.start("kiln_health")
    until(lambda: bench.ask_health("/readyz")[0] == 200)
    process.send_signal(signal.SIGSTOP)
    until(lambda: "not on EC2" in said(bench)["aws"]["health"]["withheld"])


def test_a_dead_server_is_not_ready_and_the_instance_is_well(bench: Bench) -> None:
    process = bench.serve()
    bench.start("kiln_health")
    until(lambda: bench.ask_health("/readyz")[0] == 200)
    process.kill()
    process.wait()
    until(lambda: bench.ask_health("/readyz")[0] == 503)
    assert bench.ask_health("/healthz")[0] == 200


def test_a_closed_gate_is_not_ready(bench: Bench) -> None:
    bench.serve()
    bench.start("kiln_health")
    until(lambda: bench.ask_health("/readyz")[0] == 200)
    (bench.drain / "closed").write_text("{}")
    until(lambda: bench.ask_health("/readyz")[0] == 503)
    assert "draining" in said(bench, "/readyz")["reasons"][0]["what"]
    assert bench.ask_health("/healthz")[0] == 200


def test_where_nobody_gets_in_it_is_not_ready(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text("{}")
    bench.settings |= {"AUTH_SETTINGS": str(tmp_path / "auth.json"), "AUTH": str(tmp_path / "auth.sock")}
    status = ["401 Unauthorized"]

    def answer_one() -> None:
        channel, _ = listener.accept()
        with channel:
            if b"GET /auth/token/valid" in channel.recv(4096):
                channel.sendall(f"HTTP/1.1 {status[0]}\r\nContent-Length: 2\r\n\r\n{{}}".encode())

    bench.serve()
    bench.start("kiln_health")
    until(lambda: b"nobody gets in: kiln-auth does not answer" in bench.ask_health("/readyz")[1])
    assert bench.ask_health("/healthz")[0] == 200
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "auth.sock"))
        listener.listen()
        listener.settimeout(60)
        # Whoever asks is answered, each time one more.
        until(lambda: answer_one() or bench.ask_health("/readyz")[0] == 200)  # type: ignore[func-returns-value]
        status[0] = "503 Service Unavailable"
        until(
            lambda: answer_one() or b"nobody gets in: kiln-auth answers 503" in bench.ask_health("/readyz")[1]  # type: ignore[func-returns-value]
        )
        assert bench.ask_health("/healthz")[0] == 200


def test_models_that_the_settings_leave_out_are_not_waited_for(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "weights.json").write_text('{"models": ["segmentation_spleen", "deepedit"]}')
    bench.settings["WANTED"] = "segmentation_spleen"
    bench.serve()
    bench.start("kiln_health")
    until(lambda: bench.ask_health("/readyz")[0] == 200)


def test_every_model_of_the_image_is_waited_for_without_settings(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "weights.json").write_text('{"models": ["segmentation_spleen", "deepedit"]}')
    bench.serve()
    bench.start("kiln_health")
    until(lambda: b"not loaded: deepedit" in bench.ask_health("/readyz")[1])


@pytest.mark.slow
def test_efs_away_is_not_ready_and_nobody_is_told(
    bench: Bench, on_ec2: metadata.Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's table says nfs4 here, and a pipe is what hangs: no NFS is mounted in this test."""
    monkeypatch.setattr(look_, "mounted", lambda _: "nfs4")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "efs.env").write_text("EFS_HOST=x\n")
    (tmp_path / "efs.json").write_text('{"what": "x:2049 does not answer", "do": "see that it has a target"}')
    process = bench.serve()
    environment = {f"KILN_HEALTH_{name}": value for name, value in bench.settings.items()}
    settings = replace(settings_.load(environment), mount=0.5)
    health = Health(settings, Observer(settings, bench.health, {"studies": look_.statfs("/")}))

    def rounds(seconds: float) -> list[tuple[int, int]]:
        found, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            health.round()
            health.tell()
            found.append((health.ask("/healthz")[0], health.ask("/readyz")[0]))
            time.sleep(0.1)
        return found

    assert rounds(2)[-1] == (200, 200)
    health.observer.studies.command = ["cat", str(tmp_path / "fifo")]
    rounds(1.5)
    # The server hangs with it: a request that reads a study is one that waits in the kernel.
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(bench.ask, "POST", "/infer/spleen?7")
        assert set(rounds(6.5)) == {(200, 503)}
        assert "x:2049 does not answer" in health.ask("/readyz")[1]["reasons"][0]["what"]
        asked.result()
    assert not lifecycle.RECORD.made("SetInstanceHealth") and not health.teller.rounds
    health.observer.studies.command = look_.statfs("/")
    assert rounds(2)[-1] == (200, 200)
    process.send_signal(signal.SIGSTOP)
    until(lambda: rounds(0.3) and lifecycle.RECORD.made("SetInstanceHealth"))


def test_a_gpu_that_has_gone_is_found_after_a_restart_too(bench: Bench, tmp_path: Path) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho '5, 100, 15360'\n")
    smi.chmod(0o755)
    none = str(tmp_path / "none")
    settings = replace(Settings(), smi=str(smi), table=none, nginx=none, gpu_wanted="promised")
    observer = Observer(settings, bench.health)
    until(lambda: observer.look().gpus)
    assert judge(observer.look(), settings).healthy
    smi.write_text("#!/bin/sh\necho 'Unable to determine the device handle: GPU is lost' >&2; exit 15\n")
    again = Observer(settings, bench.health)
    until(lambda: (found := again.look()).gpu and not found.gpu.ok)
    verdict = judge(again.look(), settings)
    assert not verdict.healthy and "GPU is lost" in verdict.findings["gpu"].what
    assert "gpu" in verdict.curable


def test_metrics_arrive_by_group_and_by_instance(
    bench: Bench, cloud: aws.Cloud, on_ec2: metadata.Service
) -> None:
    bench.settings |= {"PUBLISH": "1", "NAMESPACE": "Kiln"}
    bench.serve()
    bench.ask("PUT", "/datastore/label?image=x")
    bench.start("kiln_health")
    until(lambda: bench.ask_health("/healthz")[0] == 200 and said(bench)["aws"]["metrics"]["published"])
    group = {"Name": "AutoScalingGroupName", "Value": aws.GROUP}
    instance = {"Name": "InstanceId", "Value": cloud.instance}
    found = cloud.client("cloudwatch").list_metrics(Namespace="Kiln")["Metrics"]
    filed = [each["Dimensions"] for each in found if each["MetricName"] == "LabelsSaved"]
    assert sorted(filed, key=len) == [[group], [group, instance]]
    assert {"QueueDepth", "BusyRatio", "Ready", "Healthy"} <= {each["MetricName"] for each in found}


def test_what_aws_refuses_is_counted_and_harms_nothing(
    bench: Bench, cloud: aws.Cloud, on_ec2: metadata.Service
) -> None:
    bench.settings |= {"PUBLISH": "0.5", "ENDPOINT": "http://127.0.0.1:9", "AWS": "20"}
    bench.serve()
    bench.start("kiln_health")
    until(lambda: bench.ask_health("/readyz")[0] == 200)
    until(lambda: said(bench)["aws"]["metrics"]["failed"])
    assert said(bench)["aws"]["last_failure"]
    assert bench.ask_health("/readyz")[0] == 200


def upstreams(kind: str, program: str, **options: Any) -> subprocess.Popen[bytes]:
    """A task as the stock store has it started."""
    line = ["-m", tasks.UPSTREAM, "-m", kind, "-r", "{}"]
    return subprocess.Popen([sys.executable, "-c", program, *line], **options)


@pytest.mark.parametrize("start", [standin.task, upstreams], ids=["shared", "stock"])
@pytest.mark.parametrize("kind", ["train", "batch_infer", "scoring"])
def test_a_task_is_counted_and_its_loaders_are_not(
    tmp_path: Path, start: Callable[..., subprocess.Popen[bytes]], kind: str
) -> None:
    program = "import os, time\nif os.fork() == 0: time.sleep(60)\ntime.sleep(60)"
    with start(kind, program, start_new_session=True) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        try:
            until(lambda: children.read_text())
            members = tmp_path / "cgroup.procs"
            members.write_text(
                "\n".join([str(process.pid), *children.read_text().split(), str(os.getpid()), "0"])
            )
            assert server.tasks(str(members)) == ({} if kind == "scoring" else {kind: 1})
            assert server.trainings(str(members)) == (kind == "train")
            assert not server.tasks(str(tmp_path / "none"))
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_the_socket_answers_who_asks_wrongly(bench: Bench) -> None:
    from kiln_instance import wire

    bench.serve()
    bench.start("kiln_health")
    until(lambda: bench.ask_health("/healthz")[0] == 200)
    address = bench.settings["SOCKET"]
    assert wire.exchange(address, "PUT", "/healthz")[0] == 405
    assert wire.exchange(address, "GET", "/nothing")[0] == 404
    assert wire.exchange(address, "GET", "/healthz?x=1")[0] == 200
    idle = [wire.connect(address, 5) for _ in range(8)]
    assert bench.ask_health("/healthz")[0] == 200
    for each in idle:
        each.close()


def test_both_programs_together_are_small(bench: Bench) -> None:
    """Of the 100 MB that nginx and all helpers may have; tests/benchmarks/helpers_memory.py has the sum."""
    bench.serve()
    ours = [bench.start("kiln_health"), bench.start("kiln_drain", "watch")]
    until(lambda: bench.ask_health("/readyz")[0] == 200 and (bench.drain / "status.json").exists())
    time.sleep(1)
    rows = [row for each in ours for row in Path(f"/proc/{each.pid}/status").read_text().splitlines()]
    resident = [int(row.split()[1]) for row in rows if row.startswith("VmRSS:")]
    assert len(resident) == 2 and sum(resident) < 40_000, f"{resident} KiB"
