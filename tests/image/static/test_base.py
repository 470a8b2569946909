"""What every image needs to boot, be reached and keep time."""

from __future__ import annotations

import re

import pytest
import yaml
from testinfra.host import Host

from tests.image import sshd
from tests.image.asking import owned, said, text, text_or_nothing
from tests.image.reviewed import ALIASES, DROP_INS, MATCHES, UNITS, WRITTEN
from tests.image.tree import Tree, settings, shown

ENABLED = (
    "ssh", "systemd-networkd", "systemd-resolved", "chrony",
    "cloud-init-local", "cloud-init", "cloud-config", "cloud-final",
)  # fmt: skip
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
)
SSHD = {
    "passwordauthentication": "no",
    "kbdinteractiveauthentication": "no",
    "permitrootlogin": "prohibit-password",
    "hostkey": "/etc/ssh/ssh_host_ed25519_key",
}
SSHD_UNSET = {
    "authenticationmethods": "any",
    "authorizedkeyscommand": "none",
    "authorizedkeysfile": ".ssh/authorized_keys .ssh/authorized_keys2",
    "authorizedprincipalscommand": "none",
    "kerberosauthentication": "no",
    "pubkeyauthentication": "yes",
    "strictmodes": "yes",
    "trustedusercakeys": "none",
}
"""What sshd does where nothing is set: a file may say so, and nothing else."""

DEFAULT_TARGETS = {"graphical.target", "multi-user.target"}
STARTED = (".wants/", ".requires/", ".upholds/", "-generators/")
"""What a path of systemd holds that starts something."""

PACKAGED = ("/usr/lib/systemd", "/usr/local/lib/systemd")
SEARCHED = (
    "/etc/systemd/system", "/etc/systemd/user", "/etc/systemd/system.control", "/etc/systemd/system.attached",
    "/usr/local/share/systemd", *PACKAGED,
)  # fmt: skip
"""Where systemd looks for units, apart from /run."""


@pytest.fixture(scope="module")
def brought(host: Host) -> set[str]:
    """Paths that packages have brought."""
    return owned(host)


@pytest.fixture(scope="module")
def changed(host: Host) -> dict[str, bool]:
    """Path that is not as its package brought it → whether it is a setting."""
    # "??5?????? c /etc/x": what differs, whether it is a setting, where.
    found = said(host, "dpkg --verify").splitlines()
    return {line.split()[-1]: line[10:12].strip() == "c" for line in found}


@pytest.mark.parametrize("name", ENABLED)
def test_unit_is_enabled(host: Host, tree: Tree, name: str) -> None:
    # systemctl calls a unit enabled for its alias alone, which starts nothing.
    wanted = tree.matching(f"/etc/systemd/system/*.wants/{name}.service")
    assert wanted and host.service(name).is_enabled, f"{name}.service is disabled"


@pytest.mark.parametrize("name", MASKED)
def test_unit_is_masked(host: Host, name: str) -> None:
    path = host.file(f"/etc/systemd/system/{name}")
    assert path.is_symlink and path.linked_to == "/dev/null", f"{name} is not masked"


def name_of(path: str) -> str:
    return path.rpartition("/")[2]


def masked(tree: Tree) -> set[str]:
    """Units that cannot be started."""
    return {name_of(path) for path in tree.below("/etc/systemd/system") if tree[path].target == "/dev/null"}


def test_no_other_unit_is_enabled(tree: Tree, brought: set[str]) -> None:
    started = [path for path in tree.below("/etc/systemd", *PACKAGED) if any(how in path for how in STARTED)]
    ours = [path for path in started if not path.startswith(PACKAGED)]
    assert ours, "no unit is enabled in /etc/systemd"
    found = sorted({name_of(path) for path in ours} - UNITS.keys() - masked(tree))
    found += [path for path in started if path.startswith(PACKAGED) and path not in brought]
    assert not found, f"enabled, and nobody reviewed it: {shown(found)}"
    # getty@tty1.service is an instance of getty@.service.
    misled = [
        f"{path} to {entry.target}"
        for path in started
        if (entry := tree[path]).kind == "l"
        and name_of(entry.target) not in (name_of(path), re.sub("@[^.]+", "@", name_of(path)))
    ]
    assert not misled, f"leads to a unit of another name: {shown(misled)}"
    defaults = {tree[path].target or path for path in tree.matching("*/systemd/system/default.target")}
    strange = sorted(path for path in defaults if name_of(path) not in DEFAULT_TARGETS)
    assert defaults and not strange, f"boots into {shown(strange) or 'nothing: default.target is missing'}"


def reviewed(path: str, target: str) -> bool:
    """Whether a file or a link in /etc/systemd/system is one of those that roles write."""
    name = path.removeprefix("/etc/systemd/system/")
    if target:
        return target == "/dev/null" or f"{name} = {name_of(target)}" in ALIASES
    return name in (DROP_INS if "/" in name else WRITTEN)


def test_unit_files_were_reviewed(tree: Tree, brought: set[str], changed: dict[str, bool]) -> None:
    paths = [
        path
        for path in tree.below(*SEARCHED)
        if tree[path].kind != "d" and not any(how in path for how in STARTED)
    ]
    assert paths, "systemd has no unit"
    strange = [path for path in paths if path not in brought and not reviewed(path, tree[path].target)]
    assert not strange, f"unit, or what changes one, that nobody reviewed: {shown(strange)}"
    edited = [path for path in paths if path in changed]
    assert not edited, f"unit that differs from its package: {shown(edited)}"


def test_nothing_else_starts_by_itself(tree: Tree) -> None:
    # What systemd would wrap a unit around, and what a cron would run if there were one.
    scripts = {path.rpartition("/")[2][3:] for path in tree.matching("/etc/rc?.d/S*")}
    units = {path.rpartition("/")[2] for path in tree.matching("/usr/lib/systemd/system/*.service")}
    found = [
        f"/etc/init.d/{name}"
        for name in sorted(scripts)
        if f"{name.removesuffix('.sh')}.service" not in units
    ]
    found += tree.matching(
        "/etc/rc.local", "/var/spool/cron/*/*", "/var/spool/at/*", "/usr/sbin/cron", "/usr/sbin/atd"
    )
    assert not found, f"started by no unit that was reviewed: {shown(found)}"


def began_as_ami(host: Host) -> bool:
    """Whether the root began as an AMI, which boots by its own GRUB; what says nothing must boot by ours."""
    named = settings(text_or_nothing(host, "/etc/image-release")).get("BASE", "")
    if not named.startswith("ami-"):
        return False
    assert host.file("/etc/default/grub").exists, (
        f"/etc/image-release says BASE={named}, and an AMI's GRUB is missing"
    )
    return True


def test_kernel_is_the_one_that_is_booted(host: Host, tree: Tree) -> None:
    on_ami = began_as_ami(host)
    kernels = tree.matching("/boot/vmlinuz-*")
    # An AMI comes with a kernel, and keeps it beside a newer one.
    assert len(kernels) == 1 or (on_ami and kernels), f"there must be one kernel: {shown(kernels) or 'none'}"
    for kernel in kernels:
        release = kernel.removeprefix("/boot/vmlinuz-")
        assert f"/usr/lib/modules/{release}" in tree, f"the modules of {release} are missing"
    named = re.findall(r"^\s*linux\s+(\S+)", text(host, "/boot/grub/grub.cfg"), re.MULTILINE)
    # GRUB's own settings name each kernel again for recovery.
    assert len(named) == 1 or (on_ami and named), f"/boot/grub/grub.cfg names {len(named)} kernels"
    for name in dict.fromkeys(named):
        target = said(host, "readlink --canonicalize %s", name).strip()
        assert target in kernels, f"/boot/grub/grub.cfg boots {name}, which is not {shown(kernels)}"


def test_root_is_found_by_one_partuuid(host: Host) -> None:
    in_fstab = re.findall(r"^PARTUUID=(\S+)\s+/\s", text(host, "/etc/fstab"), re.MULTILINE)
    in_grub = re.findall(r"\broot=PARTUUID=(\S+)", text(host, "/boot/grub/grub.cfg"))
    assert len(in_fstab) == 1, "/etc/fstab names no root partition, or several"
    if began_as_ami(host):
        in_grub = list(dict.fromkeys(in_grub))
    assert in_grub == in_fstab, (
        f"grub.cfg boots root={shown(in_grub) or 'nothing'}, /etc/fstab says {in_fstab[0]}"
    )


def test_ssh_takes_keys_only(host: Host, tree: Tree) -> None:
    found = sshd.settings(host, tree)
    effective = SSHD_UNSET | found.values
    wrong = [
        f"{key} {effective.get(key, 'unset')}"
        for key, value in (SSHD | SSHD_UNSET).items()
        if effective.get(key) != value
    ]
    assert not wrong, f"sshd lets in more than keys: {shown(wrong)}"
    some = [match for match in found.matches if match not in MATCHES]
    assert not some, f"sshd is set otherwise for some, and nobody reviewed it: {shown(some)}"
    options = settings(text_or_nothing(host, "/etc/default/ssh")).get("SSHD_OPTS", "")
    assert not options, f"sshd is started with options that count before its settings: {options}"


def test_cloud_init_is_ours(host: Host, tree: Tree) -> None:
    last = max(tree.matching("/etc/cloud/cloud.cfg.d/*.cfg"), default="nothing")
    assert last == "/etc/cloud/cloud.cfg.d/90-kiln.cfg", (
        f"{last} overrides /etc/cloud/cloud.cfg.d/90-kiln.cfg"
    )
    ours = yaml.safe_load(text(host, last))
    assert ours["datasource_list"] == ["NoCloud", "Ec2", "None"], (
        f"datasources of cloud-init: {ours['datasource_list']}"
    )
    assert ours["ssh_genkeytypes"] == ["ed25519"], f"cloud-init makes host keys of {ours['ssh_genkeytypes']}"
    assert ours["ssh_deletekeys"], "cloud-init keeps ssh host keys that an image brings"
    assert {"growpart", "resizefs"} <= set(ours["cloud_init_modules"]), (
        "cloud-init does not grow the root file system"
    )


def test_time_comes_from_amazon_or_the_pool(host: Host) -> None:
    configured = text(host, "/etc/chrony/chrony.conf")
    servers = re.findall(r"^(?:server|pool) (\S+)(.*)$", configured, re.MULTILINE)
    assert ("169.254.169.123", " prefer iburst minpoll 4 maxpoll 4") in servers, (
        "chrony does not ask Amazon Time Sync"
    )
    assert [name for name, _ in servers if not name.startswith("169.254.")], (
        "chrony has no server outside of AWS"
    )


def test_network_is_configured(host: Host) -> None:
    found = text(host, "/etc/systemd/network/20-wired.network")
    assert "DHCP=ipv4" in found and "Name=en* eth*" in found, "no network interface is configured"


def test_locale_is_utf8(host: Host) -> None:
    assert settings(text(host, "/etc/default/locale")).get("LANG") == "C.UTF-8", "the locale is not C.UTF-8"


def test_packages_do_not_change_by_themselves(host: Host) -> None:
    assert not host.package("unattended-upgrades").is_installed, "unattended-upgrades is installed"
    found = said(host, "apt-config dump APT::Periodic::Enable").strip()
    assert '"0"' in found, f"apt changes packages by itself: {found or 'APT::Periodic::Enable is unset'}"


def test_packages_are_whole(host: Host, changed: dict[str, bool]) -> None:
    half = said(host, "dpkg --audit").strip()
    assert not half, f"half-installed package: {half[:200]}"
    # Settings may differ, programs may not.
    programs = [path for path, setting in changed.items() if not setting]
    assert not programs, f"file differs from its package: {shown(programs)}"
