"""What the facts of a round mean: a table of checks, each of the instance or of its service to clients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kiln_inflight import Request
from kiln_instance.settings import Settings

from kiln_health.look import NETWORK, Look

INODES = 10_000
"""Files that must find room: an upload takes three, a start some dozens."""


@dataclass(frozen=True)
class Finding:
    """What is wrong.

    Parameters
    ----------
    what:
        What happened, in one line.
    do:
        What an operator can do, in one line.
    curable:
        Whether a new instance would be without it.
    """

    what: str
    do: str
    curable: bool = False


def young(look: Look, settings: Settings) -> list[Request]:
    """Requests in flight that explain silence: younger than the limit, counted from when the studies came
    back."""
    found = {request for seen in (look.before, look.seen) if seen for request in seen.requests}
    return [request for request in found if min(request.seconds, look.calm) < settings.request]


def moved(look: Look) -> bool:
    """Whether the server took up a request while it was probed."""
    return bool(look.before and look.seen and look.before.begun != look.seen.begun)


def hung(look: Look, settings: Settings) -> Finding | None:
    """The server's process is there and will never answer again.

    It hangs where it does not answer its probe, and either its process is stopped or a zombie, or there is
    nothing that explains the silence: a request in flight younger than the limit, one taken up meanwhile, a
    start that systemd waits for, or studies that are away, which blocks every server alike and which no new
    instance would bring back.
    """
    if not look.seen or not look.seen.alive or look.answered:
        return None
    pid = look.seen.pid
    if look.process and look.process.halted:
        return Finding(
            f"the server's process {pid} is {look.process.halted}",
            f"kill -CONT {pid}, or restart it",
            curable=True,
        )
    if not look.seen.ready or young(look, settings) or moved(look) or look.studies_away:
        return None
    return Finding(
        f"the server's process {pid} does not answer within {settings.probe:g} s and works on no request"
        f" younger than {settings.request:g} s",
        "systemctl restart monai-label; journalctl -u monai-label says what it did last",
        curable=True,
    )


def gpu(look: Look, settings: Settings) -> Finding | None:
    """A GPU was promised and is not there; only one that has worked since boot would be there on a new
    instance."""
    promised = settings.gpu_wanted == "promised" or (
        settings.gpu_wanted == "auto" and bool(look.gpus_bus or look.gpus_worked)
    )
    if not promised or (look.gpu is None and not look.gpus_worked and look.gpus_bus):
        return None
    wanted = max(look.gpus_worked, 1)
    if len(look.gpus) >= wanted:
        return None
    why = look.gpu.text if look.gpu and not look.gpu.ok else f"nvidia-smi shows {len(look.gpus)} of {wanted}"
    if look.gpu is None:
        why = "none is on the PCI bus" if not look.gpus_bus else "nvidia-smi was not asked"
    if look.gpus_worked:
        return Finding(
            f"a GPU is gone that has worked: {why}", "dmesg says what NVRM: Xid means", curable=True
        )
    return Finding(
        f"a GPU is promised and none works: {why}",
        "nvidia-smi on this instance; its image may lack the driver",
    )


def running(look: Look, _: Settings) -> Finding | None:
    """The server runs and has started."""
    if not look.seen or not look.seen.alive:
        return Finding("the server does not run", "systemctl status monai-label says why")
    if not look.seen.ready:
        return Finding("the server is starting", "wait; systemctl status monai-label says for how long")
    return None


def studies(look: Look, _: Settings) -> Finding | None:
    """The studies are mounted, and their file system answers."""
    if not look.studies_demanded:
        return None
    do = "kiln-efs status says more"
    if look.studies_kind not in NETWORK:
        return Finding(
            f"the studies are not mounted{': ' if look.studies_word else ''}{look.studies_word}", do
        )
    if look.studies is None:
        return Finding("the studies' file system has not answered yet", "wait for the next round")
    if not look.studies.ok:
        return Finding(f"the studies' file system is away: {look.studies_word or look.studies.text}", do)
    return None


def models(look: Look, settings: Settings) -> Finding | None:
    """Every model that was promised is served; a server that is away or busy is the other checks'
    business."""
    if running(look, settings):
        return None
    if look.models is None:
        return Finding(
            "the server has not said yet which models it has", "wait until it is free for a moment"
        )
    # Some configurations serve several models, whose names begin with theirs.
    missing = [name for name in look.models_wanted if not any(each.startswith(name) for each in look.models)]
    if missing:
        return Finding(f"not loaded: {', '.join(missing)}", "journalctl -u monai-label says why")
    return None


def disk(look: Look, settings: Settings) -> Finding | None:
    """There is room for what clients send."""
    if look.disk_free is None:
        why = look.disk_word or "not asked yet"
        return Finding(f"nobody says how full {settings.disk} is: {why}", "df; dmesg, where the disk fails")
    room, inodes = look.disk_free
    if room < settings.disk_free or inodes < INODES:
        return Finding(
            f"{settings.disk} has {room >> 20} MiB and {min(inodes, 10**9)} inodes free, not"
            f" {settings.disk_free >> 20} and {INODES}",
            f"du -x --max-depth=2 {settings.disk} | sort -n | tail; make room or a larger disk",
        )
    return None


def auth(look: Look, _: Settings) -> Finding | None:
    """Somebody can get in: kiln-auth refuses who brings no token, and is not at a loss."""
    if look.auth in (None, 401):
        return None
    how = f"answers {look.auth}" if look.auth else "does not answer"
    return Finding(f"nobody gets in: kiln-auth {how}", "journalctl -u kiln-auth says why")


def gate(look: Look, _: Settings) -> Finding | None:
    """New work is taken."""
    return Finding(f"draining: {look.gate} is there", "kiln-drain status says why") if look.gate else None


@dataclass(frozen=True)
class Check:
    """A row of the table.

    Parameters
    ----------
    name:
        In JSON.
    of:
        ``instance``: /healthz and /readyz; ``service``: /readyz alone.
    find:
        What is wrong, None where nothing is.
    """

    name: str
    of: str
    find: Callable[[Look, Settings], Finding | None]


CHECKS = (
    Check("process", "instance", hung),
    Check("gpu", "instance", gpu),
    Check("server", "service", running),
    Check("studies", "service", studies),
    Check("models", "service", models),
    Check("disk", "service", disk),
    Check("auth", "service", auth),
    Check("gate", "service", gate),
)


@dataclass(frozen=True)
class Verdict:
    """Of one round.

    Parameters
    ----------
    look:
        The facts.
    findings:
        Check → what is wrong.
    """

    look: Look
    findings: dict[str, Finding]

    def wrong(self, of: Iterable[str]) -> dict[str, Finding]:
        """Findings of the instance, of the service, or of both."""
        kinds = set(of)
        rows = {check.name for check in CHECKS if check.of in kinds}
        return {name: finding for name, finding in self.findings.items() if name in rows}

    @property
    def healthy(self) -> bool:
        """Whether the instance is."""
        return not self.wrong(["instance"])

    @property
    def ready(self) -> bool:
        """Whether clients are served."""
        return not self.findings

    @property
    def curable(self) -> dict[str, Finding]:
        """What a new instance would be without."""
        return {name: finding for name, finding in self.findings.items() if finding.curable}


def judge(look: Look, settings: Settings) -> Verdict:
    """Hold the facts against every check."""
    found = {check.name: check.find(look, settings) for check in CHECKS}
    return Verdict(look, {name: finding for name, finding in found.items() if finding})
