"""kiln prove: check a version's root, boot its disk, use its server, and write down what came of it.

With a :class:`kiln.remote.Remote` the live checks run there, on an instance of its AMI, and not in QEMU.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from kiln import config, figures, manifest, paths
from kiln.errors import KilnError, RefusedError
from kiln.progress import Progress
from kiln.remote import Remote
from scripts import checks, engine, images, imds, layer, native, proc, seed, verdicts, versions, workspace
from scripts.elsewhere import Host
from scripts.guest import GATEWAY_ROLE, Guest

SERVER_ROLE = "monai_label"
"""Images with this role have a server to be used by the real client."""


def run(
    image: str,
    version: str | None = None,
    config_path: Path | None = None,
    remote: Remote | None = None,
    login: seed.Login | None = None,
) -> None:
    """Prove a version that was baked.

    Parameters
    ----------
    image:
        Name of the image.
    version:
        Which one; by default the newest, proven or not.
    config_path:
        kiln.toml, by default the checkout's.
    remote:
        Where it runs already, as an instance of its AMI; by default it is booted here.
    login:
        Who may log in to that instance's server, None where nobody has to.

    Raises
    ------
    UsageError
        kiln.toml cannot be meant, or has no such image.
    RefusedError
        A check refused.
    KilnError
        The proof could not be made.
    """
    engine.need_root("kiln prove")
    folder = paths.build_dir() / image
    place = _place(image, version)
    loaded = config.load(config_path)
    # What is not in kiln.toml is asked nothing, unless it has a driver: then nobody can say that it suits.
    asked = image in loaded.image or checks.COMPAT in checks.roles(versions.read(place).facts)
    demand = loaded.demand(image) if asked else None
    with workspace.claim(folder):
        workspace.sweep(folder)
        with Progress(f"kiln prove {image}@{place.name}") as progress, workspace.workspace(folder) as work:
            prove(place, folder, work, progress, demand, remote, login)


@dataclass
class Visit:
    """A proof on a host that somebody else brings up, with what it is told here at its first boot.

    Parameters
    ----------
    image, config_path:
        As of :func:`run`.

    Attributes
    ----------
    login:
        Who may log in to its server; known by :meth:`look`, None where nobody has to.
    """

    image: str
    config_path: Path | None = None
    login: seed.Login | None = field(default=None, init=False)

    def look(self, version: str | None) -> None:
        """See that a version can be proven at all, before something is started that costs money.

        Parameters
        ----------
        version:
            As of :func:`run`.

        Raises
        ------
        UsageError
            We are not root.
        KilnError
            There is no such version, or it has no root any more.
        """
        engine.need_root("kiln prove")
        place = _place(self.image, version)
        _whole(place)
        self.login = seed.Login.made() if GATEWAY_ROLE in versions.read(place).facts.roles else None

    def user_data(self, public_key: str) -> str:
        """Return what the host is told: takes and returns what :func:`scripts.seed.user_data` does."""
        return seed.user_data(public_key, self.login)

    def prove(self, remote: Remote, version: str | None) -> None:
        """Prove the version on it; takes and raises what :func:`run` does."""
        run(self.image, version, self.config_path, remote, self.login)


def _place(image: str, version: str | None) -> Path:
    """Return the folder of a version, by default the newest, proven or not."""
    made = versions.every(paths.build_dir() / image)
    return made[-1] if version is None and made else images.resolve(image, version)


def _whole(version: Path) -> None:
    if not (version / "root").is_dir():
        raise KilnError(
            f"{version} has no root folder any more", "old versions keep their disk only: bake again"
        )


def _asked(written: manifest.Manifest, demand: manifest.Demand | None) -> manifest.Demand | None:
    """Return what a proof of this image is for: nothing where there is nothing to judge."""
    return demand if checks.COMPAT in checks.roles(written.facts, demand) else None


def is_current(version: Path, demand: manifest.Demand | None) -> bool:
    """Whether a version has a passed proof of this manifest, by the checks and for what is asked of it now.

    Parameters
    ----------
    version:
        The version's folder.
    demand:
        What kiln.toml asks; passed over for an image without driver and instance types.
    """
    proof, written = versions.read_proof(version), versions.read(version)
    disk = written.disk
    path = version / disk.file
    return (
        proof is not None
        and path.is_file()
        and path.stat().st_size == disk.bytes
        and proof.verdict == "passed"
        and proof.manifest_digest == manifest.sha256_file(version / "manifest.json")
        and proof.checks_digest == checks.digest()
        and proof.demand == _asked(written, demand)
    )


@dataclass
class _Run:
    """A proof under way."""

    version: Path
    work: Path
    progress: Progress
    written: manifest.Manifest
    demand: manifest.Demand | None
    remote: Remote | None = None
    found: list[manifest.Check] = field(default_factory=list)
    booted: manifest.Boot | None = None

    @property
    def root(self) -> Path:
        return (self.version / "root").resolve()

    @property
    def log(self) -> Path:
        return self.version / "logs/prove.log"

    def refused(self) -> list[manifest.Check]:
        return [check for check in self.found if check.outcome == "failed"]

    def attempt(self, stage: str, name: str, call: Callable[[], str]) -> None:
        """Record one check of ours: the call returns what is wrong, or nothing."""
        start = time.monotonic()
        try:
            message = call()
        except KilnError as error:
            message = f"could not run: {error.what}"
        except (OSError, ValueError, LookupError) as error:
            message = f"could not run: {type(error).__name__}: {error}"
        self.found.append(
            manifest.Check.model_validate(
                {
                    "id": f"{stage}::{name}",
                    "stage": stage,
                    "outcome": "failed" if message else "passed",
                    "message": message,
                    "seconds": round(time.monotonic() - start, 2),
                }
            )
        )


def _files(run: _Run) -> None:
    """The bytes are those that the manifest names."""
    for name, wrong in verdicts.FILES.items():
        run.progress.detail(name)
        run.attempt("files", name, partial(wrong, run.version, run.written))


def _static(run: _Run) -> None:
    """Checks on the root, in a copy-on-write layer, so that no check can change what it checks."""
    place = run.work / "static"
    run.found += checks.run(
        "static",
        checks.roles(run.written.facts, run.demand),
        run.version / "proof-static.xml",
        run.log,
        env={"KILN_ROOT": str(layer.merged(place)), "KILN_VERSION": run.written.version}
        | ({"KILN_DEMAND": run.demand.model_dump_json()} if run.demand else {}),
        wrap=layer.command(run.root, place, []),
    )
    run.progress.detail(f"{sum(c.stage == 'static' for c in run.found)} checks")


def _guest(run: _Run, has_server: bool, reference: Path) -> None:
    """Boot the disk, check it live, and use its server by the real client; then boot it once more."""
    written, progress = run.written, run.progress
    disk, logs = run.version / written.disk.file, run.version / "logs"
    asked = run.work / "metadata.log"
    services = {imds.ADDRESS: imds.command(secrets.token_hex(), asked)}
    gateway = GATEWAY_ROLE in written.facts.roles
    boot = partial(Guest, disk, run.work, gateway=gateway, progress=progress.detail)
    with boot(logs / "serial.log", services=services) as guest:
        _use(run, guest, has_server, reference)
        with progress.stage("shutdown"):
            first = guest.run(verdicts.IDENTITY)
            ended = guest.stop()
    # On another snapshot: what the first boot made for itself, this one makes anew.
    again = boot(logs / "serial-second.log")
    with progress.stage("second boot"), again:
        again.wait_ssh()
        second = again.run(verdicts.IDENTITY)
    seen = verdicts.Boots(
        ended=ended,
        baked=written.disk.sha256,
        after=manifest.sha256_file(disk),
        first=first,
        second=second,
        requests=tuple(imds.requests(asked)),
    )
    for name, wrong in verdicts.BOOTS.items():
        run.attempt("boot", name, partial(wrong, seen))


def _use(run: _Run, host: Guest | Host, has_server: bool, reference: Path) -> None:
    """Wait for a host that boots, check it live, and use its server; whoever started it ends it."""
    with run.progress.stage("boot"):
        host.wait_ssh()
        host.wait_running()
        if has_server:
            host.wait_ready()
        run.booted = host.boot()
    with run.progress.stage("live"):
        run.found += checks.run(
            "live",
            checks.roles(run.written.facts),
            run.version / "proof-live.xml",
            run.log,
            options=[f"--ssh-config={host.ssh_config}", f"--hosts=ssh://{host.HOST}"],
            env={"KILN_VERSION": run.written.version, "KILN_ROOT": str(run.root)},
        )
        run.progress.detail(f"{sum(c.stage == 'live' for c in run.found)} checks")
    if has_server:
        with run.progress.stage("client"):
            _client(run, host, reference)


def session(url: str, folder: Path, log: Path, login: seed.Login | None = None) -> None:
    """Have the real client work with a server.

    Parameters
    ----------
    url:
        Address of the server.
    folder:
        Existing folder for what the client got.
    log:
        Gets what it writes.
    login:
        Who the client is, None where nobody has to log in.

    Raises
    ------
    KilnError
        A call was not answered as it should.
    """
    annotate = Path(__file__).with_name("annotate.py")
    # By the environment: a command line is everybody's to read.
    env = {**os.environ, **({"KILN_LOGIN": f"{login.name}:{login.password}"} if login else {})}
    command: list[str | Path] = [sys.executable, annotate, url, folder]
    proc.run(command, log, what="the client's session", env=env, timeout=1800)


def _client(run: _Run, host: Guest | Host, reference: Path) -> None:
    mine = run.work / "client"
    mine.mkdir()

    def attempt() -> str:
        session(host.url, mine, run.log, host.login)
        return ""

    run.attempt("client", "session", attempt)
    run.found += checks.run(
        "client",
        run.written.facts.roles,
        run.version / "proof-client.xml",
        run.log,
        env={"KILN_CLIENT": str(mine), "KILN_REFERENCE": str(reference)},
    )


def prove(
    version: Path,
    folder: Path,
    work: Path,
    progress: Progress,
    demand: manifest.Demand | None,
    remote: Remote | None = None,
    login: seed.Login | None = None,
) -> None:
    """Prove a version; ``latest`` moves to it if every check passes.

    Parameters
    ----------
    version:
        The version's folder.
    folder:
        ``build/<image>``.
    work:
        The run's work folder.
    progress:
        Where it is shown.
    demand:
        What kiln.toml asks; passed over for an image without driver and instance types.
    remote, login:
        As of :func:`run`.

    Raises
    ------
    RefusedError
        A check refused; ``latest`` stays where it was.
    KilnError
        The proof could not be made.
    """
    started = datetime.now(UTC).replace(microsecond=0)
    start = time.monotonic()
    # Before the first of them runs: one that is edited meanwhile makes the proof out of date.
    checks_digest = checks.digest()
    written = versions.read(version)
    _whole(version)
    run = _Run(version, work, progress, written, _asked(written, demand), remote)
    has_server = SERVER_ROLE in written.facts.roles
    # An earlier proof stands until this one is written; its details do not.
    for old in version.glob("proof-*.xml"):
        old.unlink()
    run.log.parent.mkdir(exist_ok=True)
    # The cheap checks first: they stop a proof before it hashes 15 GB and boots.
    with progress.stage("static"):
        _static(run)
    if not run.refused():
        with progress.stage("files"):
            _files(run)
    if not run.refused():
        reference = work / "native"
        try:
            if has_server:
                with progress.stage("native"):
                    native.reference(run.root, work.name, reference)
            if remote is None:
                _guest(run, has_server, reference)
            else:
                with Host(remote, work, progress.detail, login) as host:
                    _use(run, host, has_server, reference)
        except KilnError as error:
            run.found.append(checks.failed("boot", "guest", f"could not run: {error.what}"))
    seconds = time.monotonic() - start
    proof = manifest.Proof(
        contract=1,
        image=written.image,
        version=written.version,
        manifest_digest=manifest.sha256_file(version / "manifest.json"),
        checks_digest=checks_digest,
        started=started,
        seconds=round(seconds, 2),
        machine=remote.machine if remote else _machine(run.booted),
        verdict="refused" if run.refused() else "passed",
        demand=run.demand,
        boot=run.booted,
        checks=run.found,
    )
    half = version / f".proof.{os.getpid()}"
    half.write_text(proof.model_dump_json(indent=1) + "\n")
    half.replace(version / "proof.json")
    checks.junit(version / "proof.xml", run.found)
    if refused := run.refused():
        for check in refused:
            progress.say(f"refused  {check.id}: {check.message}")
        raise RefusedError(
            f"{written.image}@{written.version} is refused by {len(refused)} of {len(run.found)} checks,"
            f" first {refused[0].id}: {refused[0].message}",
            f"read {version / 'proof.json'}, mend it, then bake; latest stays where it was"
            + (" (damaged files: kiln bake --force)" if refused[0].stage == "files" else ""),
        )
    for check in run.found:
        if check.outcome != "passed":
            progress.say(f"{check.outcome}  {check.id}: {check.message}")
    versions.set_latest(folder, version.name)
    progress.say(f"proven: {len(run.found)} checks passed in {seconds:.0f} s; latest is {version.name}")
    if has_server and remote is None and run.booted is not None and run.booted.ready:
        command = f"kiln prove {written.image}@{written.version}"
        figures.write("proof.checks", len(run.found), command)
        figures.write("proof.seconds_over_boot", round(seconds / run.booted.ready, 3), command)


def _machine(booted: manifest.Boot | None) -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    accelerator = f", {booted.accelerator}" if booted else ""
    return f"{os.cpu_count()} cores, {memory:.0f} GiB{accelerator}"
