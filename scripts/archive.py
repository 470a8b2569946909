"""base.lock: which Debian packages a bake will install, resolved before it starts."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from debian.deb822 import Packages
from pydantic import Field

from kiln import paths
from kiln.errors import KilnError
from kiln.manifest import Strict
from scripts import mirrors, proc


class Package(Strict):
    """A Debian package as the archive has it."""

    version: str = Field(description="Debian version")
    sha256: str = Field(description="of the .deb, from the signed index")
    size: int = Field(description="of the .deb in bytes")


class BaseLock(Strict):
    """``base.lock``: the archive as it stood and what was resolved from it.

    The input digest covers the packages and not the Release files: those are signed anew every day,
    and a day on which no package of ours moved is no reason to bake.
    """

    releases: dict[str, str] = Field(description="suite → sha256 of its signed InRelease file")
    base: dict[str, Package] = Field(description="packages of the base root")
    roles: dict[str, Package] = Field(description="packages that the roles add")
    stage: dict[str, Package] = Field(
        default_factory=dict,
        description="packages that a kernel module is compiled with, in a stage that is thrown away",
    )

    def digest(self) -> str:
        """Sha256 over the resolved packages, in hexadecimal."""
        body = self.model_dump(mode="json", exclude={"releases"})
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    def base_digest(self) -> str:
        """Sha256 over the packages of the base root alone."""
        body = self.model_dump(mode="json", include={"base"})
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    def packages(self) -> dict[str, str]:
        """Every package of the image → version; those of the stage are not in it."""
        return {name: package.version for name, package in {**self.base, **self.roles}.items()}


_KERNEL = re.compile(r"linux-image-\d")
"""A package with a kernel in it; linux-image-cloud-amd64 only depends on one."""


def folder() -> Path:
    """The resolver's own apt folder, kept so that a second update asks only whether anything moved.

    Named by what it lists: a checkout that lists other components would empty the lists of this one.
    """
    return paths.cache_dir() / "apt" / "-".join((mirrors.SUITES[0], *mirrors.COMPONENTS))


def _apt_environment(at: Path) -> dict[str, str]:
    return {**os.environ, "APT_CONFIG": str(at / "apt.conf"), "LC_ALL": "C.UTF-8"}


def _prepare(at: Path) -> None:
    for name in ("lists/partial", "archives/partial", "state"):
        (at / name).mkdir(parents=True, exist_ok=True)
    # All components for every image: two bakes that listed different ones would empty each other's lists.
    lines = mirrors.source_lines(mirrors.apt_sources(), mirrors.COMPONENTS)
    (at / "sources.list").write_text("\n".join(lines) + "\n")
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    if bundle.exists():
        (at / "ca.crt").write_bytes(bundle.read_bytes())
    extra = [
        f'Dir::State "{at}/state";',
        f'Dir::State::status "{at}/state/status";',
        f'Dir::Cache "{at}";',
        'Dir::Etc::Preferences "/dev/null";',
        'Dir::Etc::PreferencesParts "/dev/null";',
        'APT::Install-Recommends "false";',
        'APT::Architecture "amd64";',
        'APT::Architectures "amd64";',
    ]
    (at / "apt.conf").write_text(mirrors.apt_config(at) + "\n".join(extra) + "\n")
    (at / "state/status").write_text("")


def _simulate(at: Path, wanted: Iterable[str], what: str) -> list[tuple[str, str]]:
    said = proc.output(
        ["apt-get", "--simulate", "-qq", "install", *wanted], what=what, env=_apt_environment(at)
    )
    if gone := re.findall(r"^Remv (\S+)", said, re.M):
        raise KilnError(
            f"{what} would remove {gone[0]}", "the package lists of two roles contradict each other"
        )
    return re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+)", said, re.M)


def _describe(at: Path, chosen: list[tuple[str, str]]) -> tuple[dict[str, Package], str]:
    """Look the chosen packages up in the signed indexes; return them, and a dpkg status of them."""
    if not chosen:
        return {}, ""
    said = proc.output(
        ["apt-cache", "show", *(f"{name}={version}" for name, version in chosen)],
        what="reading the package index",
        env=_apt_environment(at),
    )
    found: dict[str, Package] = {}
    status = []
    for stanza in Packages.iter_paragraphs(said, use_apt_pkg=False):
        if stanza["Package"] in found:
            continue
        found[stanza["Package"]] = Package(
            version=stanza["Version"], sha256=stanza["SHA256"], size=int(stanza["Size"])
        )
        stanza["Status"] = "install ok installed"
        status.append(stanza.dump())
    if missing := [name for name, _ in chosen if name not in found]:
        raise KilnError(
            f"the package index has no entry for {missing[0]}", "run again: the archive may be moving"
        )
    return found, "\n".join(status) + "\n"


def _key(at: Path, wanted: Sequence[object], releases: dict[str, str]) -> Path:
    body = json.dumps([*wanted, releases])
    return at / f"resolved-{hashlib.sha256(body.encode()).hexdigest()[:16]}.json"


def resolve(
    base: tuple[str, ...],
    roles: list[list[str]],
    log: Path,
    sources: tuple[str, ...] = (),
    say: Callable[[str], None] = lambda _: None,
) -> BaseLock:
    """Resolve what a base root and each role's list will install, in that order.

    Parameters
    ----------
    base:
        Packages of the base root, beside the essential ones and apt.
    roles:
        Each role's ``<role>_packages``, in the order of the playbook.
    log:
        Where apt's output goes.
    sources:
        Packages that bring the source of a kernel module, to be compiled for the kernel that the roles bring.
    say:
        Told when another process holds the lists and this one waits.

    Raises
    ------
    KilnError
        The archive cannot be reached, or a package is not in it; a module is wanted, and no kernel.
    """
    at = folder()
    with hold(say):
        return _resolve(at, base, roles, log, sources)


def kernel(packages: Iterable[str]) -> str:
    """Return the release of the one kernel among packages.

    Parameters
    ----------
    packages:
        Names of packages.

    Returns
    -------
    str
        Such as ``6.1.0-40-cloud-amd64``.

    Raises
    ------
    KilnError
        There is none, or there are several: a module is compiled for one.
    """
    found = sorted(name.removeprefix("linux-image-") for name in packages if _KERNEL.match(name))
    if len(found) != 1:
        raise KilnError(
            f"a kernel module is to be compiled for {', '.join(found) or 'no kernel'}",
            "one role of the playbook must install one kernel: base_packages has linux-image-cloud-amd64",
        )
    return found[0]


@contextmanager
def hold(say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Hold the resolver's folder: one at a time changes its lists, or installs from them.

    Parameters
    ----------
    say:
        Told when another process holds it and this one waits.
    """
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another bake, which holds the package lists")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _resolve(
    at: Path, base: tuple[str, ...], roles: list[list[str]], log: Path, sources: tuple[str, ...]
) -> BaseLock:
    _prepare(at)
    proc.run(
        ["apt-get", "update", "-o", "APT::Update::Error-Mode=any"],
        log,
        what="updating the package lists",
        hint="check the network and /etc/apt; the lists come from this machine's own mirrors",
        env=_apt_environment(at),
    )
    releases = {}
    for suite in mirrors.SUITES:
        files = sorted((at / "lists").glob(f"*_dists_{suite}_InRelease"))
        if len(files) != 1:
            raise KilnError(f"{len(files)} signed Release files for {suite}", f"remove {at}, then try again")
        releases[suite] = hashlib.sha256(files[0].read_bytes()).hexdigest()
    known = _key(at, [base, roles, sources], releases)
    if known.exists():
        return BaseLock.model_validate_json(known.read_text())
    status = bare = ""
    steps: list[dict[str, Package]] = []
    for index, wanted in enumerate([["?essential", "apt", *base], *roles]):
        (at / "state/status").write_text(status)
        what = "resolving the base root" if index == 0 else "resolving the roles' packages"
        packages, stanzas = _describe(at, _simulate(at, wanted, what))
        steps.append(packages)
        status += stanzas
        if index == 0:
            bare = stanzas
    added = {name: package for step in steps[1:] for name, package in step.items()}
    stage: dict[str, Package] = {}
    if sources:
        (at / "state/status").write_text(bare)
        chosen = _simulate(
            at, [f"linux-headers-{kernel(added)}", *sources], "resolving the kernel module's compiler"
        )
        stage, _ = _describe(at, chosen)
    lock = BaseLock(releases=releases, base=steps[0], roles=added, stage=stage)
    for old in at.glob("resolved-*.json"):
        old.unlink()
    known.write_text(lock.model_dump_json(indent=1))
    return lock
