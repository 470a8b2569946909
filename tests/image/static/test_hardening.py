"""What an image refuses: every control is there, or waived with a reason and a day that is not over."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from testinfra.host import Host

from tests.image import sshd as files_of_sshd
from tests.image.asking import lines, naming, said, text, text_or_nothing
from tests.image.controls import (
    CONTROLS,
    MODULES,
    NEEDED,
    OPTIONAL,
    RECORD,
    SSHD,
    SYSCTL,
    uncounted,
    waived,
    waivers,
)
from tests.image.tree import Tree, settings, shown

MASKED = (
    "apt-daily.service",
    "apt-daily-upgrade.service",
    "packagekit.service",
    "unattended-upgrades.service",
)
METADATA = "169.254.169.254"
LIMITS = "/etc/security/limits.d/*.conf"
OF_CLOUD_INIT = "/etc/cloud/cloud.cfg.d/80-kiln-metadata.cfg"
OF_HEALTH = "/usr/local/lib/kiln/kiln_instance/settings.py"
"""Where kiln-health and kiln-drain have the address from; each proof sees that they ask with a token."""


@pytest.fixture(scope="module")
def record(host: Host) -> str:
    return text(host, RECORD)


@pytest.fixture(scope="module")
def sshd(host: Host, tree: Tree) -> dict[str, str]:
    return files_of_sshd.settings(host, tree).values


def merged(host: Host, command: str) -> dict[str, str]:
    """Settings that systemd reads from several files, the last of which counts."""
    return {key.strip(): value.strip() for key, value in settings(said(host, command)).items()}


def differing(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    return [f"{key} {found.get(key, 'unset')}" for key, value in wanted.items() if found.get(key) != value]


def test_every_control_is_there_or_waived(record: str) -> None:
    has = set(json.loads(record)["controls"])
    missing = CONTROLS - has - waived(record)
    assert not missing, f"controls neither there nor waived: {shown(sorted(missing))}"
    unknown = has - CONTROLS - OPTIONAL
    assert not unknown, f"controls that no check knows: {shown(sorted(unknown))}"


def test_waivers_have_a_reason_and_are_not_over(record: str) -> None:
    wrong = [
        f"{one.get('control')} (until {one.get('until')}): {why}"
        for one in waivers(record)
        if (why := uncounted(one))
    ]
    assert not wrong, f"waiver that does not count: {shown(wrong)}"


@pytest.mark.parametrize("control", SSHD)
def test_sshd_is_set(record: str, sshd: dict[str, str], control: str) -> None:
    wrong = [] if control in waived(record) else differing(sshd, SSHD[control])
    assert not wrong, f"sshd is not set as {control} says: {shown(wrong)}"


@pytest.mark.parametrize("control", SYSCTL)
def test_kernel_is_set(host: Host, record: str, control: str) -> None:
    found = merged(host, "/lib/systemd/systemd-sysctl --cat-config")
    wrong = [] if control in waived(record) else differing(found, SYSCTL[control])
    assert not wrong, f"the kernel is not set as {control} says: {shown(wrong)}"


def test_modules_cannot_be_loaded(host: Host, record: str) -> None:
    found = said(host, "/sbin/modprobe --showconfig")
    off = {name.replace("_", "-") for name in re.findall(r"^install (\S+) /bin/false$", found, re.M)}
    listed = {name.replace("_", "-") for name in re.findall(r"^blacklist (\S+)$", found, re.M)}
    missing = set() if "modules" in waived(record) else MODULES - (off & listed)
    assert not missing, f"kernel modules that could be loaded: {shown(sorted(missing))}"
    needed = (off | listed) & NEEDED
    assert not needed, f"kernel modules that are off and needed: {shown(sorted(needed))}"


def test_journal_is_kept_and_bounded(host: Host, record: str) -> None:
    found = merged(host, "systemd-analyze cat-config systemd/journald.conf")
    wrong = differing(found, {"Storage": "persistent", "ForwardToSyslog": "no"})
    bounds = [
        key for key in ("SystemMaxUse", "RuntimeMaxUse") if not re.match(r"\d+[MG]$", found.get(key, ""))
    ]
    wrong += [f"{key} {found.get(key, 'unset')}" for key in bounds]
    assert "journald" in waived(record) or not wrong, f"the journal is not bounded: {shown(wrong)}"


def test_nothing_updates_by_itself(host: Host, record: str) -> None:
    paths = [host.file(f"/etc/systemd/system/{name}") for name in MASKED]
    loose = [p.path.rpartition("/")[2] for p in paths if not p.is_symlink or p.linked_to != "/dev/null"]
    assert "updates" in waived(record) or not loose, f"could change packages by itself: {shown(loose)}"


def test_audit_is_on_or_absent(host: Host, record: str, tree: Tree) -> None:
    wanted = "auditd" in json.loads(record or "{}").get("controls", {})
    there = host.package("auditd").is_installed
    assert there == wanted, f"auditd is {'' if there else 'not '}installed, the record says otherwise"
    if wanted:
        enabled = tree.matching("/etc/systemd/system/*.wants/auditd.service")
        assert enabled and "/etc/audit/rules.d/60-kiln.rules" in tree, "auditd is disabled or has no rules"


def test_metadata_is_asked_by_version_2(host: Host, record: str) -> None:
    if "metadata" in waived(record):
        return
    found = said(host, "systemd-analyze cat-config systemd/system.conf")
    # An empty value forgets those before it, any other adds to them.
    values = re.findall(r"^DefaultEnvironment=(.*)$", found, re.MULTILINE)
    counting = values[max((at + 1 for at, value in enumerate(values) if not value.strip()), default=0) :]
    assert "AWS_EC2_METADATA_V1_DISABLED=true" in " ".join(counting).split(), (
        "services may fall back to instance metadata version 1"
    )
    ours = yaml.safe_load(text_or_nothing(host, OF_CLOUD_INIT) or "{}")
    urls = ours.get("datasource", {}).get("Ec2", {}).get("metadata_urls", [])
    assert urls == [f"http://{METADATA}"], (
        f"cloud-init looks for instance metadata at {shown(urls) or 'any name'}"
    )


def test_no_program_of_ours_asks_for_metadata(host: Host, tree: Tree) -> None:
    # A GET without a token is version 1: only who takes one may know the address.
    places = ("/etc", "/usr/local", "/opt/monai-label/*.py", "/var/lib/monai-label/apps")
    knowing = {path for word in (METADATA, "latest/meta-data") for path in naming(host, tree, word, *places)}
    found = sorted(knowing - {OF_CLOUD_INIT, OF_HEALTH})
    assert not found, f"asks for instance metadata by itself: {shown(found)}"


def test_nothing_dumps_core(host: Host, record: str, tree: Tree) -> None:
    found = merged(host, "systemd-analyze cat-config systemd/system.conf")
    wrong = differing(found, {"DefaultLimitCORE": "0"})
    limits = [line.split() for line in lines(host, tree, "/etc/security/limits.conf", LIMITS)]
    # A later line counts before an earlier one, and one for a user before one for everybody.
    cores = [words for words in limits if words[2:3] == ["core"] and not words[0].startswith("#")]
    wrong += [f"limits of {who}" for who in ("*", "root") if [who, "hard", "core", "0"] not in cores]
    wrong += [f"limits: {' '.join(words)}" for words in cores if words[3:] != ["0"]]
    assert "core_dumps" in waived(record) or not wrong, f"a core dump could be written: {shown(wrong)}"


def test_new_files_are_private(host: Host, record: str, tree: Tree) -> None:
    found = dict(re.findall(r"^(\w+)\s+(.*?)\s*$", text(host, "/etc/login.defs"), re.MULTILINE))
    wrong = differing(found, {"UMASK": "027", "HOME_MODE": "0750", "ENCRYPT_METHOD": "YESCRYPT"})
    masks = {line.strip() for line in lines(host, tree, "/etc/profile.d/*.sh") if "umask" in line}
    if masks != {"umask 027"}:
        wrong.append("the umask of shells")
    assert "accounts" in waived(record) or not wrong, f"new files are open to others: {shown(wrong)}"


def test_su_is_for_root(host: Host, record: str) -> None:
    rules = [line.split() for line in text(host, "/etc/pam.d/su").splitlines()]
    rules = [words for words in rules if words and words[0] == "auth"]
    wanted = [
        ["auth", "sufficient", "pam_rootok.so"],
        ["auth", "required", "pam_wheel.so", "use_uid", "group=root"],
    ]
    assert "su" in waived(record) or rules[:2] == wanted, "su is open to more than root"


def test_sudo_is_strict(host: Host, record: str, tree: Tree) -> None:
    done = host.run("visudo --check --quiet")
    assert done.rc == 0, f"sudo would refuse its rules: {(done.stdout + done.stderr).strip()[-200:]}"
    rules = {" ".join(line.split()) for line in lines(host, tree, "/etc/sudoers", "/etc/sudoers.d/*")}
    missing = {"Defaults use_pty", "Defaults timestamp_timeout=5"} - rules
    assert "sudo" in waived(record) or not missing, f"sudo's rules lack: {shown(sorted(missing))}"
    loose = [line for line in rules if re.search(r"^[^#]*(NOPASSWD|!authenticate)", line)]
    assert not loose, f"sudo without a password for whoever has this name: {shown(loose)}"


def test_tmp_takes_no_device_and_no_suid_program(host: Host, record: str, tree: Tree) -> None:
    mount = settings(text_or_nothing(host, "/etc/systemd/system/tmp.mount"))
    options = set(mount.get("Options", "").split(","))
    enabled = "/etc/systemd/system/local-fs.target.wants/tmp.mount" in tree
    there = enabled and {"bind", "nosuid", "nodev"} <= options
    assert "mounts" in waived(record) or there, f"/tmp is mounted with {shown(sorted(options)) or 'nothing'}"
    assert "noexec" not in options, "/tmp runs no programs: torch and triton could not use what they build"
