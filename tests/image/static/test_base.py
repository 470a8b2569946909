"""What every image needs to boot, be reached and keep time."""

from __future__ import annotations

import re

import pytest
import yaml
from testinfra.host import Host

from tests.image.reviewed import UNITS
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


@pytest.mark.parametrize("name", ENABLED)
def test_unit_is_enabled(host: Host, tree: Tree, name: str) -> None:
    # systemctl calls a unit enabled for its alias alone, which starts nothing.
    wanted = tree.matching(f"/etc/systemd/system/*.wants/{name}.service")
    assert wanted and host.service(name).is_enabled, f"{name}.service is disabled"


@pytest.mark.parametrize("name", MASKED)
def test_unit_is_masked(host: Host, name: str) -> None:
    path = host.file(f"/etc/systemd/system/{name}")
    assert path.is_symlink and path.linked_to == "/dev/null", f"{name} is not masked"


def test_no_other_unit_is_enabled(host: Host, tree: Tree) -> None:
    patterns = [
        f"/etc/systemd/{kind}/*.{how}/*" for kind in ("system", "user") for how in ("wants", "requires")
    ]
    links = [
        *tree.matching(*patterns, "/etc/systemd/*-generators/*", "/usr/local/lib/systemd/*-generators/*")
    ]
    assert links, "no unit is enabled in /etc/systemd"
    masked = host.run("find /etc/systemd/system -maxdepth 1 -lname /dev/null -printf '%f\\n'").stdout.split()
    found = sorted({path.rpartition("/")[2] for path in links} - UNITS.keys() - set(masked))
    assert not found, f"enabled, and nobody reviewed it: {shown(found)}"


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
    release = host.file("/etc/image-release")
    named = settings(release.content_string).get("BASE", "") if release.exists else ""
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
    named = re.findall(r"^\s*linux\s+(\S+)", host.file("/boot/grub/grub.cfg").content_string, re.MULTILINE)
    # GRUB's own settings name each kernel again for recovery.
    assert len(named) == 1 or (on_ami and named), f"/boot/grub/grub.cfg names {len(named)} kernels"
    for name in dict.fromkeys(named):
        target = host.run("readlink --canonicalize %s", name).stdout.strip()
        assert target in kernels, f"/boot/grub/grub.cfg boots {name}, which is not {shown(kernels)}"


def test_root_is_found_by_one_partuuid(host: Host) -> None:
    in_fstab = re.findall(r"^PARTUUID=(\S+)\s+/\s", host.file("/etc/fstab").content_string, re.MULTILINE)
    in_grub = re.findall(r"\broot=PARTUUID=(\S+)", host.file("/boot/grub/grub.cfg").content_string)
    assert len(in_fstab) == 1, "/etc/fstab names no root partition, or several"
    if began_as_ami(host):
        in_grub = list(dict.fromkeys(in_grub))
    assert in_grub == in_fstab, (
        f"grub.cfg boots root={shown(in_grub) or 'nothing'}, /etc/fstab says {in_fstab[0]}"
    )


def test_ssh_takes_keys_only(host: Host) -> None:
    # The first value counts, and sshd_config includes the folder before it sets anything.
    said = host.run("cat /etc/ssh/sshd_config.d/*.conf /etc/ssh/sshd_config").stdout
    effective: dict[str, str] = {}
    for line in said.splitlines():
        if words := line.split("#")[0].split(None, 1):
            effective.setdefault(words[0].lower(), words[-1].strip())
    wrong = [
        f"{key} {effective.get(key, 'unset')}" for key, value in SSHD.items() if effective.get(key) != value
    ]
    assert not wrong, f"sshd lets in more than keys: {shown(wrong)}"


def test_cloud_init_is_ours(host: Host, tree: Tree) -> None:
    last = tree.matching("/etc/cloud/cloud.cfg.d/*.cfg")[-1]
    assert last == "/etc/cloud/cloud.cfg.d/90-kiln.cfg", (
        f"{last} overrides /etc/cloud/cloud.cfg.d/90-kiln.cfg"
    )
    said = yaml.safe_load(host.file(last).content_string)
    assert said["datasource_list"] == ["NoCloud", "Ec2", "None"], (
        f"datasources of cloud-init: {said['datasource_list']}"
    )
    assert said["ssh_genkeytypes"] == ["ed25519"], f"cloud-init makes host keys of {said['ssh_genkeytypes']}"
    assert said["ssh_deletekeys"], "cloud-init keeps ssh host keys that an image brings"
    assert {"growpart", "resizefs"} <= set(said["cloud_init_modules"]), (
        "cloud-init does not grow the root file system"
    )


def test_time_comes_from_amazon_or_the_pool(host: Host) -> None:
    said = host.file("/etc/chrony/chrony.conf").content_string
    servers = re.findall(r"^(?:server|pool) (\S+)(.*)$", said, re.MULTILINE)
    assert ("169.254.169.123", " prefer iburst minpoll 4 maxpoll 4") in servers, (
        "chrony does not ask Amazon Time Sync"
    )
    assert [name for name, _ in servers if not name.startswith("169.254.")], (
        "chrony has no server outside of AWS"
    )


def test_network_is_configured(host: Host) -> None:
    said = host.file("/etc/systemd/network/20-wired.network").content_string
    assert "DHCP=ipv4" in said and "Name=en* eth*" in said, "no network interface is configured"


def test_locale_is_utf8(host: Host) -> None:
    assert settings(host.file("/etc/default/locale").content_string).get("LANG") == "C.UTF-8", (
        "the locale is not C.UTF-8"
    )


def test_packages_do_not_change_by_themselves(host: Host) -> None:
    assert not host.package("unattended-upgrades").is_installed, "unattended-upgrades is installed"
    said = host.run("apt-config dump APT::Periodic::Enable").stdout
    assert '"0"' in said, (
        f"apt changes packages by itself: {said.strip() or 'APT::Periodic::Enable is unset'}"
    )


def test_packages_are_whole(host: Host) -> None:
    audit = host.run("dpkg --audit")
    assert audit.rc == 0 and not audit.stdout.strip(), f"half-installed package: {audit.stdout.strip()[:200]}"
    # Settings may differ, programs may not.
    changed = [line for line in host.run("dpkg --verify").stdout.splitlines() if line[10:12].strip() != "c"]
    assert not changed, f"file differs from its package: {shown(line.split()[-1] for line in changed)}"
