"""NVIDIA's kernel modules as a Debian package, compiled for the image's kernel in a throw-away stage.

DKMS in the image would bring a compiler, headers and a signing key; taking them away again takes the modules
along. So the modules alone are packed, and the package is cached by everything that decides its bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kiln import paths
from kiln.errors import KilnError, UsageError
from scripts import archive, base, cache, engine, gpu, mirrors, proc

ROLE = "nvidia"
"""The role that installs the package."""

SOURCES = ("nvidia-kernel-dkms",)
"""Debian's package with the source of the modules."""

LENT = "nvidia-modules.deb"
"""Name of the package in the folder that a build container sees."""

MODULES = ("nvidia", "nvidia-uvm", "nvidia-modeset", "nvidia-drm", "nvidia-peermem")
"""What Debian's dkms.conf builds; each file is named with ``nvidia-current`` in place of ``nvidia``."""

DKMS = "nvidia-current"
"""Name of the module for DKMS."""

SECONDS = 3600.0
"""How long a compilation may take on a busy machine; alone it takes 150 s on two cores."""

_LAYOUT = 1
"""Counted up where :func:`pack` makes another package of the same modules."""

_POSTINST = '#!/bin/sh\nset -e\n[ "$1" != configure ] || depmod -a %s\n'
_POSTRM = '#!/bin/sh\nset -e\n[ "$1" != remove ] || depmod -a %s\n'

# Without these files DKMS would compile inside apt, which holds the lists, and make itself a signing key.
_NO_AUTOINSTALL = "etc/dkms/no-autoinstall"
_NO_SIGNING = ("etc/dkms/framework.conf.d/kiln.conf", "sign_file=/nonexistent\n")


@dataclass(frozen=True)
class Package:
    """A package of modules as it will be made.

    Parameters
    ----------
    kernel:
        Release of the kernel, such as ``6.1.0-40-cloud-amd64``.
    kernel_version:
        Debian version of that kernel's package.
    driver:
        Version of the driver, such as ``535.309.01``.
    depends:
        What the package depends on, as in a control file.
    stage:
        Packages that it is compiled with → version.
    """

    kernel: str
    kernel_version: str
    driver: str
    depends: tuple[str, ...] = ()
    stage: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the Debian package."""
        return f"kiln-nvidia-modules-{self.kernel}"

    @property
    def version(self) -> str:
        """Debian version: the driver's and the kernel's."""
        return f"{self.driver}+{self.kernel_version}"

    def control(self) -> str:
        """Return the control file.

        Returns
        -------
        str
            With the relations to kernel and userspace that make another version of either one a conflict.
        """
        fields = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": "amd64",
            "Maintainer": "Kiln <root@localhost>",
            "Depends": ", ".join([f"linux-image-{self.kernel} (= {self.kernel_version})", *self.depends]),
            "Provides": f"nvidia-kernel-{self.driver}",
            "Conflicts": "nvidia-kernel-dkms, nvidia-open-kernel-dkms",
            "Section": "non-free/kernel",
            "Priority": "optional",
            "Description": f"NVIDIA {self.driver} kernel modules, compiled for Linux {self.kernel}",
        }
        return "".join(f"{name}: {value}\n" for name, value in fields.items())

    def digest(self) -> str:
        """Sha256 over everything that decides the package's bytes, in hexadecimal."""
        parts = [_LAYOUT, self.control(), self.stage, MODULES, _POSTINST, _POSTRM, _NO_SIGNING]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def cached(self) -> Path:
        """Return where the package is cached; it may not be there yet."""
        return paths.cache_dir() / "driver" / f"{self.name}_{self.version}_{self.digest()[:16]}.deb"


def sources(roles: Sequence[str], wanted: str | None) -> tuple[str, ...]:
    """Return the packages whose modules a bake has to compile.

    Parameters
    ----------
    roles:
        Roles of the playbook.
    wanted:
        ``driver`` of the image in kiln.toml.

    Raises
    ------
    UsageError
        A local bake cannot install that driver, or the playbook has no role that does.
    """
    if ROLE not in roles:
        if wanted is None:
            return ()
        raise UsageError(
            f'driver = "{wanted}", and the image\'s playbook has no role {ROLE}',
            f"add the role {ROLE} to the playbook, or take driver out of kiln.toml",
        )
    if wanted not in (None, "debian"):
        raise UsageError(
            f'driver = "{wanted}" cannot be baked on this machine',
            'give the image driver = "debian"; the other sources need a base image that has them',
        )
    return SOURCES


def plan(lock: archive.BaseLock, wanted: Sequence[str]) -> Package | None:
    """Return the package that resolved inputs ask for.

    Parameters
    ----------
    lock:
        What was resolved.
    wanted:
        Userspace that the role installs with the modules; what has the driver's version is held to it.

    Returns
    -------
    Package or None
        None where the image has no modules of NVIDIA's to be compiled.

    Raises
    ------
    KilnError
        There is no one kernel, or source and userspace differ in version.
    """
    if not lock.stage:
        return None
    release = archive.kernel(lock.roles)
    source = lock.stage[SOURCES[0]].version
    if missing := [name for name in wanted if name not in lock.roles]:
        raise KilnError(f"{missing[0]} was not resolved", f"the playbook needs the role {ROLE}")
    support = lock.roles["nvidia-kernel-support"].version
    if support != source:
        raise KilnError(
            f"the modules' source is {source}, the userspace {support}",
            "the archive may be moving: run again; else give nvidia_packages of one suite",
        )
    found = {name: lock.roles[name].version for name in wanted}
    return Package(
        kernel=release,
        kernel_version=lock.roles[f"linux-image-{release}"].version,
        driver=source.rsplit("-", 1)[0],
        depends=tuple(
            f"{name} (= {version})" if version == source else name for name, version in sorted(found.items())
        ),
        stage={name: package.version for name, package in lock.stage.items()},
    )


def installed(lock: archive.BaseLock, wanted: Sequence[str]) -> dict[str, str]:
    """Return what the finished root has beyond base.lock.

    Parameters
    ----------
    lock, wanted:
        As for :func:`plan`.

    Returns
    -------
    dict of str to str
        The package of modules → its version, or nothing.
    """
    package = plan(lock, wanted)
    return {package.name: package.version} if package else {}


def make(
    lock: archive.BaseLock,
    wanted: Sequence[str],
    tools: dict[str, str],
    work: Path,
    log: Path,
    say: Callable[[str], None],
) -> dict[str, Path]:
    """Return the package of modules for an image, from the cache or newly compiled.

    Parameters
    ----------
    lock, wanted:
        As for :func:`plan`.
    tools:
        Tool → version, of which mmdebstrap's counts: the stage starts from the image's base root.
    work:
        The run's work folder, whose name labels the container; a sweep clears what a killed run left there.
    log:
        Where apt's and DKMS's output goes.
    say:
        Called with what happens.

    Returns
    -------
    dict of str to Path
        ``{LENT: path}``, as :func:`scripts.mirrors.lend` takes it; empty where no modules are wanted.

    Raises
    ------
    KilnError
        The modules cannot be compiled, or are not what they should be.
    """
    package = plan(lock, wanted)
    if package is None:
        return {}
    deb = package.cached()
    if cache.ready(deb, deb.name, say):
        say(f"{package.driver} for {package.kernel}, from the cache")
    else:
        _compile(package, lock, tools, work, log, say)
    return {LENT: deb}


def _compile(
    package: Package,
    lock: archive.BaseLock,
    tools: dict[str, str],
    work: Path,
    log: Path,
    say: Callable[[str], None],
) -> None:
    """Compile in a folder of the run, in a container without systemd, and put the package into the cache."""
    stage = work / "driver"
    stage.mkdir()
    root = stage / "root"
    say("base root of the stage")
    base.unpack(lock, tools, root, log, say)
    (root / _NO_AUTOINSTALL).parent.mkdir(parents=True, exist_ok=True)
    (root / _NO_AUTOINSTALL).touch()
    (root / _NO_SIGNING[0]).parent.mkdir(parents=True, exist_ok=True)
    (root / _NO_SIGNING[0]).write_text(_NO_SIGNING[1])
    found = engine.find(root)
    loan = mirrors.lend(stage, archive.folder())

    said: list[str] = []

    def run(*command: str, what: str) -> None:
        options = ["--rm", "--label", f"{engine.LABEL}={work.name}"]
        options += [part for volume in loan.volumes for part in ("--volume", volume)]
        # By name alone: the command line is logged, and a proxy's address may hold a password.
        options += [part for name in loan.environment for part in ("--env", name)]
        proc.run(
            found.command("run", *found.arguments(root, *options, inner=command)),
            log, what=what, env=found.environment() | loan.environment, timeout=SECONDS, on_line=said.append,
        )  # fmt: skip

    exact = [f"{name}={version}" for name, version in package.stage.items()]
    say(f"compiler and headers of {package.kernel}, {len(exact)} packages")
    with archive.hold(say):
        run(
            "apt-get", "install", "--yes", "--quiet", "--no-install-recommends",
            "--option", "Dpkg::Options::=--force-unsafe-io", *exact, what="installing the compiler",
        )  # fmt: skip
    expected = {name: one.version for name, one in {**lock.base, **lock.stage}.items()}
    base.compare(root, expected, "the stage that compiles the driver")
    say(f"compiling {package.driver} for {package.kernel}, about 3 min")
    module = ["-m", DKMS, "-v", package.driver, "-k", package.kernel]
    try:
        run("dkms", "install", *module, what="compiling the driver")
    except KilnError as error:
        messages = root / "var/lib/dkms" / DKMS / package.driver / "build/make.log"
        if messages.exists():
            with log.open("a") as stream:
                stream.write(messages.read_text(errors="replace"))
        raise KilnError(error.what, f"read {log}: the compiler's own messages are at its end") from None
    run("dkms", "status", *module, what="asking DKMS")
    # apt and dkms both end well where nothing was compiled.
    if not said[-1].endswith(": installed"):
        raise KilnError(f"DKMS has no module for {package.kernel}: {said[-1]}", f"read {log}")
    made = stage / "modules.deb"
    # A time that belongs to the source: the same inputs make the same package on every day.
    source = root / "usr/src" / f"{DKMS}-{package.driver}" / "dkms.conf"
    pack(
        root / "lib/modules" / package.kernel / "updates/dkms",
        package,
        made,
        log,
        epoch=int(source.stat().st_mtime),
    )
    cache.keep(made, package.cached())
    say(f"{made.stat().st_size / 1e6:.0f} MB")
    shutil.rmtree(stage)


def pack(modules: Path, package: Package, deb: Path, log: Path, epoch: int) -> None:
    """Pack compiled modules into a Debian package.

    Parameters
    ----------
    modules:
        Folder with the modules as DKMS leaves them.
    package:
        What they must be.
    deb:
        The package to write.
    log:
        Where dpkg-deb's output goes.
    epoch:
        Time that every file gets, in seconds since 1970.

    Raises
    ------
    KilnError
        A module is missing, or is of another driver or for another kernel.
    """
    tree = deb.with_suffix(".tree")
    place = tree / "lib/modules" / package.kernel / "updates/nvidia"
    for folder in (tree / "DEBIAN", place):
        folder.mkdir(parents=True)
    for name in MODULES:
        file = f"{name.replace('nvidia', DKMS, 1)}.ko"
        if not (modules / file).is_file():
            raise KilnError(f"DKMS made no {file}", f"read {log}")
        said = {name: values[0] for name, values in gpu.modinfo(modules / file).items()}
        found = (said.get("version"), said.get("vermagic", "").partition(" ")[0])
        if found != (package.driver, package.kernel):
            raise KilnError(
                f"{file} is {found[0]} for {found[1] or 'no kernel'},"
                f" not {package.driver} for {package.kernel}",
                f"remove {package.cached().parent}, bake again, and read {log} if it stays so",
            )
        shutil.copyfile(modules / file, place / file)
        (place / file).chmod(0o644)
    (tree / "DEBIAN/control").write_text(package.control())
    # dpkg --verify knows by these whether a module is still the one that was compiled.
    sums = [(hashlib.md5(p.read_bytes(), usedforsecurity=False), p) for p in sorted(place.iterdir())]
    lines = [f"{total.hexdigest()}  {path.relative_to(tree)}\n" for total, path in sums]
    (tree / "DEBIAN/md5sums").write_text("".join(lines))
    for name, text in (("postinst", _POSTINST), ("postrm", _POSTRM)):
        (tree / "DEBIAN" / name).write_text(text % package.kernel)
        (tree / "DEBIAN" / name).chmod(0o755)
    for path in [tree, *tree.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
        os.utime(path, (epoch, epoch))
    proc.run(
        # Not compressed: it is read once from a local disk, and never part of an image.
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, deb],
        log,
        what="packing the driver",
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
    )
    shutil.rmtree(tree)
