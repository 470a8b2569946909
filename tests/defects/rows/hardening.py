"""Defects of the controls of the role hardening."""

from __future__ import annotations

from tests.defects.defect import Answer, Defect, change, gone, link, live, several, static, write
from tests.image.controls import SSHD, SYSCTL

SSH = "etc/ssh/sshd_config.d"
SYSTEM = "etc/systemd/system"
RECORD = "etc/kiln/hardening.json"

STATIC = [
    Defect(
        "controls without a record",
        change(RECORD, r'^.*"mounts":.*\n', ""),
        static("test_hardening::test_every_control_is_there_or_waived"),
        ("neither there nor waived: mounts",),
    ),
    Defect(
        "waiver that is over",
        change(
            RECORD,
            r'"waivers": \[[^]]*\]',
            '"waivers": [{"control": "su", "reason": "x", "until": "2020-01-01"}]',
        ),
        static("test_hardening::test_waivers_have_a_reason_and_are_not_over"),
        ("su (until 2020-01-01)",),
    ),
    Defect(
        "waiver without a reason",
        change(
            RECORD,
            r'"waivers": \[[^]]*\]',
            '"waivers": [{"control": "su", "reason": " ", "until": "2999-01-01"}]',
        ),
        static("test_hardening::test_waivers_have_a_reason_and_are_not_over"),
        ("su (until 2999-01-01)",),
    ),
    Defect(
        "waiver without a day",
        change(
            RECORD,
            r'"waivers": \[[^]]*\]',
            '"waivers": [{"control": "su", "reason": "x", "until": "never"}]',
        ),
        static("test_hardening::test_waivers_have_a_reason_and_are_not_over"),
        ("su (until never): no day",),
    ),
    Defect(
        "waiver of no control",
        change(
            RECORD,
            r'"waivers": \[[^]]*\]',
            '"waivers": [{"control": "selinux", "reason": "x", "until": "2999-01-01"}]',
        ),
        static("test_hardening::test_waivers_have_a_reason_and_are_not_over"),
        ("selinux (until 2999-01-01): no control",),
    ),
    Defect(
        "agent forwarding and old ciphers in sshd",
        write(f"{SSH}/05-tuned.conf", "AllowAgentForwarding yes\nCiphers aes128-cbc\n"),
        static("test_hardening::test_sshd_is_set"),
        ("allowagentforwarding yes", "ciphers aes128-cbc"),
    ),
    Defect(
        "kernel settings overridden",
        write(
            "etc/sysctl.d/99-tuned.conf",
            "kernel.kptr_restrict = 0\nnet.ipv4.ip_forward = 1\nfs.suid_dumpable = 2\n",
        ),
        static("test_hardening::test_kernel_is_set"),
        ("kernel.kptr_restrict 0", "net.ipv4.ip_forward 1", "fs.suid_dumpable 2"),
    ),
    Defect(
        "module that could be loaded",
        change("etc/modprobe.d/kiln-hardening.conf", "^install sctp .*\n", ""),
        static("test_hardening::test_modules_cannot_be_loaded"),
        ("could be loaded: sctp",),
    ),
    Defect(
        "module that is needed and off",
        write("etc/modprobe.d/tuned.conf", "install nfs /bin/false\n"),
        static("test_hardening::test_modules_cannot_be_loaded"),
        ("off and needed: nfs",),
    ),
    Defect(
        "journal without bounds",
        write("etc/systemd/journald.conf.d/90-tuned.conf", "[Journal]\nSystemMaxUse=\nForwardToSyslog=yes\n"),
        static("test_hardening::test_journal_is_kept_and_bounded"),
        ("SystemMaxUse", "ForwardToSyslog yes"),
    ),
    Defect(
        "service of unattended upgrades unmasked",
        gone(f"{SYSTEM}/unattended-upgrades.service"),
        static("test_hardening::test_nothing_updates_by_itself"),
        ("unattended-upgrades.service",),
    ),
    Defect(
        "audit rules without a daemon",
        change(RECORD, r'"controls": \{', '"controls": {"auditd": "CIS 6.2",'),
        static("test_hardening::test_audit_is_on_or_absent"),
        ("auditd is not installed",),
    ),
    Defect(
        "metadata version 1 for services",
        write("etc/systemd/system.conf.d/90-tuned.conf", "[Manager]\nDefaultEnvironment=\n"),
        static("test_hardening::test_metadata_is_asked_by_version_2"),
        ("fall back to instance metadata version 1",),
    ),
    Defect(
        "metadata by a name",
        change("etc/cloud/cloud.cfg.d/80-kiln-metadata.cfg", "169.254.169.254", "instance-data"),
        static("test_hardening::test_metadata_is_asked_by_version_2"),
        ("http://instance-data",),
    ),
    Defect(
        "program that asks for metadata",
        write("usr/local/bin/zone", "#!/bin/sh\ncurl http://169.254.169.254/latest/meta-data/\n", 0o755),
        static("test_hardening::test_no_program_of_ours_asks_for_metadata"),
        ("/usr/local/bin/zone",),
    ),
    Defect(
        "core dumps allowed",
        several(
            write("etc/systemd/system.conf.d/95-tuned.conf", "[Manager]\nDefaultLimitCORE=infinity\n"),
            change("etc/security/limits.d/60-kiln-core-dumps.conf", "^root hard core 0$", "root hard core 9"),
        ),
        static("test_hardening::test_nothing_dumps_core"),
        ("DefaultLimitCORE infinity", "limits of root"),
    ),
    Defect(
        "core dumps allowed by a later limit",
        write("etc/security/limits.d/90-tuned.conf", "* - core unlimited\n"),
        static("test_hardening::test_nothing_dumps_core"),
        ("limits: * - core unlimited",),
    ),
    Defect(
        "files that all may read",
        several(
            change("etc/login.defs", "^UMASK 027$", "UMASK 022"),
            change("etc/profile.d/kiln-umask.sh", "027", "022"),
        ),
        static("test_hardening::test_new_files_are_private"),
        ("UMASK 022", "umask of shells"),
    ),
    Defect(
        "su for everybody",
        change("etc/pam.d/su", "^auth +required +pam_wheel.*\n", ""),
        static("test_hardening::test_su_is_for_root"),
        ("su is open",),
    ),
    Defect(
        "sudo without a password",
        write("etc/sudoers.d/90-build", "build ALL=(ALL) NOPASSWD:ALL\n", 0o440),
        static("test_hardening::test_sudo_is_strict"),
        ("build ALL=(ALL) NOPASSWD:ALL",),
    ),
    Defect(
        "broken rules of sudo",
        write("etc/sudoers.d/91-broken", "nonsense\n", 0o440),
        static("test_hardening::test_sudo_is_strict"),
        ("refuse its rules",),
    ),
    Defect(
        "devices in /tmp",
        change(f"{SYSTEM}/tmp.mount", ",nodev", ""),
        static("test_hardening::test_tmp_takes_no_device_and_no_suid_program"),
        ("/tmp is mounted with",),
    ),
    Defect(
        "no programs in /tmp",
        several(
            change(f"{SYSTEM}/tmp.mount", "nosuid,nodev", "nosuid,nodev,noexec"),
            link(f"{SYSTEM}/local-fs.target.wants/tmp.mount", "/etc/systemd/system/tmp.mount"),
        ),
        static("test_hardening::test_tmp_takes_no_device_and_no_suid_program"),
        ("torch and triton",),
    ),
]

LIVE = [
    Answer(
        "kernel that shows its pointers",
        ("sysctl", "kernel.kptr_restrict"),
        "0",
        live("test_hardening::test_kernel_runs_as_set"),
        ("kernel.kptr_restrict is 0",),
    ),
    Answer(
        "kernel without its settings",
        ("sysctl",),
        {},
        live("test_hardening::test_kernel_runs_as_set"),
        ("is unknown",),
    ),
    Answer(
        "sshd that forwards agents",
        ("sshd_settings",),
        "allowagentforwarding yes\n",
        live("test_hardening::test_sshd_runs_as_set"),
        ("allowagentforwarding yes",),
    ),
    Answer(
        "needless module loaded",
        ("modules",),
        ["usb_storage"],
        live("test_hardening::test_no_needless_module_is_loaded"),
        ("usb-storage",),
    ),
    Answer(
        "no list of modules",
        ("modules",),
        [],
        live("test_hardening::test_no_needless_module_is_loaded"),
        ("lists no kernel module",),
    ),
    Answer(
        "/tmp not mounted",
        ("mount_options",),
        {"/dev/shm": "rw,nosuid,nodev"},
        live("test_hardening::test_temporary_files_hold_no_device_and_no_suid_program"),
        ("/tmp",),
    ),
    Answer(
        "/dev/shm without programs",
        ("mount_options", "/dev/shm"),
        "rw,nosuid,nodev,noexec",
        live("test_hardening::test_temporary_files_hold_no_device_and_no_suid_program"),
        ("no programs in /dev/shm",),
    ),
    Answer(
        "services that dump core",
        ("manager",),
        "DefaultLimitCORE=infinity\nEnvironment=AWS_EC2_METADATA_V1_DISABLED=true\n",
        live("test_hardening::test_services_dump_no_core"),
        ("infinity",),
    ),
    Answer(
        "services that may ask version 1",
        ("manager",),
        "DefaultLimitCORE=0\nEnvironment=\n",
        live("test_hardening::test_services_ask_metadata_by_version_2"),
        ("metadata version 1",),
    ),
    Answer(
        "journal in memory alone",
        ("journal_on_disk",),
        [],
        live("test_hardening::test_journal_is_on_the_disk"),
        ("lost with the next boot",),
    ),
]

SOUND = {
    "hardening": '{"controls": {}, "waivers": []}',
    "sysctl": {key: value for wanted in SYSCTL.values() for key, value in wanted.items()},
    "modules": ["nfs", "nvme", "ena"],
    "sshd_settings": "".join(f"{key} {value}\n" for wanted in SSHD.values() for key, value in wanted.items()),
    "mount_options": {"/tmp": "rw,nosuid,nodev,relatime", "/dev/shm": "rw,nosuid,nodev"},
    "manager": "DefaultLimitCORE=0\nEnvironment=AWS_EC2_METADATA_V1_DISABLED=true\n",
    "journal_on_disk": ["/var/log/journal/0/system.journal"],
}
