"""What is seen in one round: facts without a judgement, none of which can make the round wait for long."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import kiln_inflight
from kiln_instance import server, wire
from kiln_instance.settings import Settings, present

from kiln_health.child import Child, Result

NETWORK = ("nfs4", "efs")
"""File systems that the studies may be on."""

GPU = re.compile(r"pci:v000010DE\w*bc03sc0[02]")
"""As nvidia's kiln_gpu.py: NVIDIA's VGA and 3D devices."""

INFO_SECONDS = 60.0
"""Between two questions for the models: they change with a reload alone."""

QUERY = ["--query-gpu=utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits"]


@dataclass(frozen=True)
class Look:
    """The facts of a round.

    Parameters
    ----------
    seen:
        The server's table after the probe, None where it has none.
    before:
        The table before the probe: what was worked on meanwhile explains silence as well.
    process:
        The server's process.
    answered:
        Whether the server's loop answered the probe.
    cpu:
        Seconds of processor time that the server used since the last round.
    studies_demanded, studies_kind:
        Whether the studies must be on EFS, and the type of file system that is mounted there.
    studies:
        Whether their file system answered; None where it was not asked yet.
    studies_word:
        What kiln-efs says of it.
    calm:
        Seconds since which the studies have been there: a request that waited for them has that long to end.
    disk_free:
        Bytes and inodes that are free, None where nobody has said so yet.
    models_wanted, models:
        Names that must be served, and those that are; None where nobody has said so yet.
    gpus_bus:
        NVIDIA's GPUs on the PCI bus.
    gpus_worked:
        How many have worked since boot.
    gpu:
        What nvidia-smi said; None where it was not asked.
    gate:
        File that closes the gate, empty where it is open.
    auth:
        Status with which kiln-auth answers a question without a token, 0 where it does not; None where the
        image has no log-in.
    waiting:
        Requests that nginx has taken and not answered, None without nginx.
    trainings:
        Trainings that run.
    """

    seen: kiln_inflight.Seen | None = None
    before: kiln_inflight.Seen | None = None
    process: server.Process | None = None
    answered: bool = False
    cpu: float = 0.0
    studies_demanded: bool = False
    studies_kind: str = ""
    studies: Result | None = None
    studies_word: str = ""
    calm: float = 1e9
    disk_free: tuple[int, int] | None = None
    disk_word: str = ""
    models_wanted: tuple[str, ...] = ()
    models: tuple[str, ...] | None = None
    gpus_bus: int = 0
    gpus_worked: int = 0
    gpu: Result | None = None
    gate: str = ""
    auth: int | None = None
    waiting: int | None = None
    trainings: int = 0
    when: float = field(default_factory=time.time)

    @property
    def studies_away(self) -> bool:
        """Whether the studies are on EFS and EFS is not there."""
        return self.studies_demanded and (
            self.studies_kind not in NETWORK or (self.studies is not None and not self.studies.ok)
        )

    @property
    def gpus(self) -> list[list[float]]:
        """Use in percent, memory used and memory in MiB of each GPU; NaN where it does not say."""
        if not self.gpu or not self.gpu.ok:
            return []
        rows = [[number(word) for word in line.split(",")] for line in self.gpu.text.splitlines()]
        return [row for row in rows if len(row) == 3]


def number(word: str) -> float:
    """A number; NaN where it is none, as ``[N/A]``."""
    try:
        return float(word)
    except ValueError:
        return float("nan")


def mounted(path: str, table: Path = Path("/proc/self/mountinfo")) -> str:
    """Type of what is mounted at a path, empty where nothing is; asks the kernel's table and never the
    mount."""
    kind = ""
    for line in table.read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[4] == path:
            kind = after.split()[0]
    return kind


def on_bus(sys_: Path = Path("/sys")) -> int:
    """How many GPUs of NVIDIA's are on the PCI bus."""
    found = 0
    for path in (sys_ / "bus/pci/devices").glob("*/modalias"):
        try:
            found += bool(GPU.match(path.read_text()))
        except OSError:
            continue  # it has just left the bus
    return found


def said(path: str) -> dict[str, Any]:
    """What a file of JSON says, empty where it cannot be read."""
    try:
        found = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def wanted(settings: Settings) -> tuple[str, ...]:
    """Models that must be served: those that the instance's settings choose, or all of the image's."""
    if settings.wanted:
        return tuple(settings.wanted.split(","))
    return tuple(said(settings.models).get("models", ()))


def statfs(path: str) -> list[str]:
    """Command that asks a file system how full it is; a megabyte, where Python would take ten."""
    return ["stat", "--file-system", "--format=%a %S %d %c", path]


class Observer:
    """Looks, and remembers what one round must know of the last.

    Parameters
    ----------
    settings:
        Limits and places.
    runtime:
        Folder that outlives a restart of ours and no boot.
    commands:
        Name of a child → its command, in the place of the usual one.
    """

    def __init__(
        self,
        settings: Settings,
        runtime: Path,
        commands: dict[str, list[str]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.worked_file = runtime / "gpus-worked"
        self.clock = clock
        usual = {
            "studies": statfs(settings.studies),
            "disk": statfs(settings.disk),
            "gpu": [settings.smi, *QUERY],
        }
        made = {**usual, **(commands or {})}
        self.studies = Child(made["studies"], settings.mount)
        self.disk = Child(made["disk"], settings.mount)
        self.gpu = Child(made["gpu"], settings.gpu, every=30.0)
        self._models: tuple[tuple[int, int], tuple[str, ...]] | None = None
        self._asked: tuple[tuple[int, int], float] = ((0, 0), 0.0)
        self._cpu: tuple[int, float] = (0, 0.0)
        self._away = float("-inf")
        self._worked = int(self.worked_file.read_text()) if self.worked_file.exists() else 0

    def _probe(self) -> bool:
        where = (self.settings.host, self.settings.port)
        try:
            status, _ = wire.exchange(where, "GET", kiln_inflight.ALIVE, seconds=self.settings.probe)
        except (OSError, ValueError):
            return False
        return status < 500

    def _ask_auth(self) -> int | None:
        """Whether nginx would hear who gets in; asked by its own socket, since through nginx each question
        would be a line of the access log."""
        if not Path(self.settings.auth_settings).exists():
            return None
        try:
            status, _ = wire.exchange(
                self.settings.auth, "GET", "/auth/token/valid", seconds=self.settings.probe
            )
        except (OSError, ValueError):
            return 0
        return status

    def _ask_models(self, seen: kiln_inflight.Seen, free: bool) -> tuple[str, ...] | None:
        """Models of this process; asked where the answer costs nobody anything."""
        which = (seen.pid, seen.born)
        if free and (self._asked[0] != which or self.clock() - self._asked[1] >= INFO_SECONDS):
            self._asked = (which, self.clock())
            where = (self.settings.host, self.settings.port)
            try:
                status, body = wire.exchange(where, "GET", "/info/", seconds=self.settings.probe)
                models = tuple(json.loads(body)["models"]) if status == 200 else ()
            except OSError:
                pass  # busy by now: the probe says whether it hangs
            except (ValueError, KeyError, TypeError):
                self._models = (which, ())
            else:
                self._models = (which, models)
        return self._models[1] if self._models and self._models[0] == which else None

    def _cpu_since(self, pid: int, process: server.Process | None) -> float:
        before, self._cpu = self._cpu, (pid, process.cpu if process else 0.0)
        return round(self._cpu[1] - before[1], 2) if process and before[0] == pid else 0.0

    def look(self) -> Look:
        """See how it is."""
        settings, table = self.settings, Path(self.settings.table)
        demanded = Path(settings.efs).exists()
        kind = mounted(settings.studies)
        # Before the probe, so that they work while it waits.
        studies = self.studies.look() if demanded and kind in NETWORK else None
        disk = self.disk.look()
        bus = on_bus()
        promised = {"auto": bool(bus or self._worked), "promised": True, "none": False}
        gpu = self.gpu.look() if promised[settings.gpu_wanted] else None
        before = kiln_inflight.read(table)
        answered = self._probe() if before and before.alive else False
        seen = kiln_inflight.read(table)
        process = server.process(seen.pid) if seen and seen.alive else None
        found = Look(
            seen=seen,
            before=before,
            process=process,
            answered=answered,
            cpu=self._cpu_since(seen.pid if seen else 0, process),
            studies_demanded=demanded,
            studies_kind=kind,
            studies=studies,
            studies_word="; ".join(
                word for word in (said(settings.efs_status).get(key) for key in ("what", "do")) if word
            ),
            disk_free=parse_free(disk),
            disk_word=disk.text if disk and not disk.ok else "",
            models_wanted=wanted(settings),
            gpus_bus=bus,
            gpus_worked=self._worked,
            gpu=gpu,
            gate=present(settings.gates),
            auth=self._ask_auth(),
            waiting=server.waiting(settings.nginx, settings.nginx_path),
            trainings=server.trainings(settings.cgroup),
        )
        if found.studies_away:
            self._away = self.clock()
        if len(found.gpus) > self._worked:
            self._worked = len(found.gpus)
            self.worked_file.write_text(str(self._worked))
        free = bool(seen and seen.ready and answered and not seen.count and not found.studies_away)
        models = self._ask_models(seen, free) if seen else None
        return replace(found, models=models, calm=self.clock() - self._away)


def parse_free(result: Result | None) -> tuple[int, int] | None:
    """Free bytes and inodes of a file system as ``stat`` says them; one without inodes has enough."""
    words = result.text.split() if result and result.ok else []
    if len(words) != 4 or not all(word.isdigit() for word in words):
        return None
    blocks, size, inodes, all_inodes = map(int, words)
    return blocks * size, inodes if all_inodes else sys.maxsize
