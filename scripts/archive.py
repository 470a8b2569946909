"""base.lock: which Debian packages a bake will install, resolved before it starts."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
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

    def digest(self) -> str:
        """Sha256 over the resolved packages, in hexadecimal."""
        body = self.model_dump(mode="json", exclude={"releases"})
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    def base_digest(self) -> str:
        """Sha256 over the packages of the base root alone."""
        body = self.model_dump(mode="json", include={"base"})
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    def packages(self) -> dict[str, str]:
        """Every package → version."""
        return {name: package.version for name, package in {**self.base, **self.roles}.items()}


def folder() -> Path:
    """The resolver's own apt folder, kept so that a second update asks only whether anything moved."""
    return paths.cache_dir() / "apt" / mirrors.SUITES[0]


def _apt_environment(at: Path) -> dict[str, str]:
    return {**os.environ, "APT_CONFIG": str(at / "apt.conf"), "LC_ALL": "C.UTF-8"}


def _prepare(at: Path) -> None:
    for name in ("lists/partial", "archives/partial", "state"):
        (at / name).mkdir(parents=True, exist_ok=True)
    (at / "sources.list").write_text("\n".join(mirrors.source_lines(mirrors.apt_sources())) + "\n")
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


def _key(at: Path, base: tuple[str, ...], roles: list[list[str]], releases: dict[str, str]) -> Path:
    body = json.dumps([base, roles, releases])
    return at / f"resolved-{hashlib.sha256(body.encode()).hexdigest()[:16]}.json"


def resolve(base: tuple[str, ...], roles: list[list[str]], log: Path) -> BaseLock:
    """Resolve what a base root and each role's list will install, in that order.

    Parameters
    ----------
    base:
        Packages of the base root, beside the essential ones and apt.
    roles:
        Each role's ``<role>_packages``, in the order of the playbook.
    log:
        Where apt's output goes.

    Raises
    ------
    KilnError
        The archive cannot be reached, or a package is not in it.
    """
    at = folder()
    with hold():
        return _resolve(at, base, roles, log)


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


def _resolve(at: Path, base: tuple[str, ...], roles: list[list[str]], log: Path) -> BaseLock:
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
    known = _key(at, base, roles, releases)
    if known.exists():
        return BaseLock.model_validate_json(known.read_text())
    status = ""
    steps: list[dict[str, Package]] = []
    for index, wanted in enumerate([["?essential", "apt", *base], *roles]):
        (at / "state/status").write_text(status)
        what = "resolving the base root" if index == 0 else "resolving the roles' packages"
        packages, stanzas = _describe(at, _simulate(at, wanted, what))
        steps.append(packages)
        status += stanzas
    lock = BaseLock(
        releases=releases, base=steps[0], roles={k: v for step in steps[1:] for k, v in step.items()}
    )
    for old in at.glob("resolved-*.json"):
        old.unlink()
    known.write_text(lock.model_dump_json(indent=1))
    return lock
