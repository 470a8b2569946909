"""Limits and places, each with where it comes from; /etc/kiln/health.env overrides them by
KILN_HEALTH_<NAME>."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


class WrongError(Exception):
    """A setting that cannot be meant.

    Parameters
    ----------
    what:
        What is wrong, in one line.
    do:
        What helps, in one line.
    """

    def __init__(self, what: str, do: str) -> None:
        super().__init__(f"{what}; {do}")


@dataclass(frozen=True)
class Settings:
    """Of both programs.

    Parameters
    ----------
    interval:
        Seconds between two rounds of checks. AWS asks that spot's notice be looked for every 5 s, and a
        load balancer asks every 10 to 30: what it hears is at most a round old.
    probe:
        Seconds for the server to answer its probe, which takes it a millisecond when its loop is free.
    request:
        Seconds for which a request in flight explains silence: upstream's own limit of an inference
        (MONAI_LABEL_INFER_TIMEOUT).
    findings:
        Rounds in a row that must find the same before Auto Scaling is told: 3, as a load balancer's usual
        threshold.
    mount:
        Seconds for a file system to say how full it is; NFS takes milliseconds, and its client waits 60 s
        (timeo=600) before it asks again.
    gpu:
        Seconds for nvidia-smi; without its persistence daemon it sets the card up first, which takes up to
        some seconds.
    disk_free:
        Bytes that must be free: an upload is buffered once by nginx and once by the server, a CT study has
        up to 1 GB.
    publish:
        Seconds between two publications; CloudWatch's metrics have a minute's resolution by default.
    again:
        Seconds after which Auto Scaling is told again while it goes on.
    aws:
        Seconds for a call to AWS with all its retries.
    drain:
        Seconds that a drain waits for requests: ``request``, and a minute for their answers to reach the
        client.
    training:
        Seconds that a drain waits for a training. Auto Scaling waits 48 hours at most, and an instance
        refresh one hour for a protected instance: whoever trains longer raises both.
    stop:
        Seconds that ``systemctl stop`` waits for requests and training; the unit's TimeoutStopSec is a
        minute more.
    spot_margin:
        Seconds before the end of a spot instance at which waiting ends: what is left goes to the shutdown.
    wanted:
        Names of the models that must be served, with commas between: those of an instance whose settings
        choose among the image's, which ``models`` lists.
    imds:
        Seconds for one try to reach the metadata service, which is on this machine's own link.
    """

    interval: float = 5.0
    probe: float = 5.0
    request: float = 600.0
    findings: int = 3
    mount: float = 5.0
    gpu: float = 20.0
    disk_free: int = 2 << 30
    publish: float = 60.0
    again: float = 600.0
    aws: float = 30.0
    drain: float = 660.0
    training: float = 14400.0
    stop: float = 660.0
    spot_margin: float = 15.0
    imds: float = 1.0

    host: str = "127.0.0.1"
    port: int = 8000
    namespace: str = "Kiln"
    hook: str = "kiln-drain"
    gpu_wanted: str = "auto"
    studies: str = "/mnt/studies"
    disk: str = "/"
    table: str = "/run/monai-label/inflight"
    stopping: str = "/run/monai-label/closed"
    draining: str = "/run/kiln-drain/closed"
    cgroup: str = "/sys/fs/cgroup/system.slice/monai-label.service/cgroup.procs"
    efs: str = "/etc/kiln/efs.env"
    efs_status: str = "/run/kiln/efs.json"
    models: str = "/etc/kiln/weights.json"
    wanted: str = ""
    auth: str = "/run/kiln-auth/auth.sock"
    auth_settings: str = "/etc/kiln/auth.json"
    nginx: str = "/run/kiln-gateway/status.sock"
    nginx_path: str = "/status"
    socket: str = "/run/kiln-health/http.sock"
    smi: str = "/usr/bin/nvidia-smi"
    metadata: str = "169.254.169.254:80"
    endpoint: str = ""
    python: str = "/usr/bin/python3"

    @property
    def gates(self) -> tuple[str, ...]:
        """Files of which one is there while no new work is taken; each has one owner and goes with it."""
        return (self.stopping, self.draining)


CHOICES = {"gpu_wanted": ("auto", "promised", "none")}
"""``promised``: an instance without one is unhealthy; ``auto``: only where one is, or was, on the PCI bus."""


def load(environment: Mapping[str, str]) -> Settings:
    """Settings of the environment.

    Parameters
    ----------
    environment:
        Variables; ``KILN_HEALTH_INTERVAL=10`` is ``interval``.

    Raises
    ------
    WrongError
        A value cannot be meant.
    """
    found: dict[str, object] = {}
    for field in fields(Settings):
        name = f"KILN_HEALTH_{field.name.upper()}"
        if name not in environment:
            continue
        value = environment[name]
        kind: Any = type(field.default)
        try:
            found[field.name] = kind(value)
        except ValueError:
            raise WrongError(f"{name}={value} is no number", "correct /etc/kiln/health.env") from None
        if kind is not str and float(value) <= 0:
            raise WrongError(f"{name}={value} is not above 0", "correct /etc/kiln/health.env")
        if value not in CHOICES.get(field.name, (value,)):
            options = ", ".join(CHOICES[field.name])
            raise WrongError(f"{name}={value} is not one of {options}", "correct /etc/kiln/health.env")
    return Settings(**found)  # type: ignore[arg-type]


def present(paths: tuple[str, ...]) -> str:
    """The first of some files that is there, empty where none is."""
    return next((path for path in paths if Path(path).exists()), "")
