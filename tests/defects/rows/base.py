"""Defects of what every image needs to boot, be reached and keep time."""

from __future__ import annotations

from typing import Any

from tests.defects.defect import Answer, Defect, change, gone, link, live, several, static, write

UNITS = "etc/systemd/system"
UP = {"ActiveState": "active", "NRestarts": "0", "MainPID": "400"}
VERSION = "20260102T030405Z-89abcdef"
KERNEL = "6.1.0-1-cloud-amd64"
ED25519 = "/etc/ssh/ssh_host_ed25519_key"

SSHD = """permitrootlogin without-password
passwordauthentication no
kbdinteractiveauthentication no
authorizedkeysfile .ssh/authorized_keys .ssh/authorized_keys2
authorizedkeyscommand none
trustedusercakeys none
"""

STATIC = [
    Defect(
        "units of the first boot disabled",
        gone(
            f"{UNITS}/*.wants/ssh.service",
            f"{UNITS}/*.wants/systemd-networkd.service",
            f"{UNITS}/*.wants/systemd-resolved.service",
            f"{UNITS}/*.wants/chrony.service",
            f"{UNITS}/*.wants/cloud-*.service",
        ),
        static("test_base::test_unit_is_enabled"),
        ("is disabled",),
    ),
    Defect(
        "timers of Debian unmasked",
        gone(f"{UNITS}/*.timer", f"{UNITS}/e2scrub_reap.service"),
        static("test_base::test_unit_is_masked", "test_base::test_no_other_unit_is_enabled"),
        ("is not masked",),
    ),
    Defect(
        "another unit enabled",
        link(
            f"{UNITS}/multi-user.target.wants/debug-shell.service", "/lib/systemd/system/debug-shell.service"
        ),
        static("test_base::test_no_other_unit_is_enabled"),
        ("debug-shell.service",),
    ),
    Defect(
        "generator that may enable any unit",
        write("etc/systemd/system-generators/build", "#!/bin/sh\n", 0o755),
        static("test_base::test_no_other_unit_is_enabled"),
        ("build",),
    ),
    Defect(
        "unit enabled where packages enable theirs",
        several(
            link(
                "usr/lib/systemd/system/multi-user.target.wants/debug-shell.service", "../debug-shell.service"
            ),
            link(
                "usr/local/lib/systemd/system/basic.target.requires/rescue.service", "/lib/systemd/system/x"
            ),
        ),
        # Nothing of ours lies in /usr/local/lib/systemd, whatever it does.
        static("test_base::test_no_other_unit_is_enabled"),
        ("multi-user.target.wants/debug-shell.service", "basic.target.requires/rescue.service"),
    ),
    Defect(
        "another unit by the name of a reviewed one",
        link(f"{UNITS}/multi-user.target.wants/chrony.service", "/lib/systemd/system/debug-shell.service"),
        static("test_base::test_no_other_unit_is_enabled"),
        ("chrony.service to /lib/systemd/system/debug-shell.service",),
    ),
    Defect(
        "another target at boot",
        link("usr/lib/systemd/system/default.target", "rescue.target"),
        static("test_base::test_no_other_unit_is_enabled"),
        ("boots into rescue.target",),
    ),
    Defect(
        "additions to units, and units in place of a package's",
        several(
            write(f"{UNITS}/ssh.service.d/10-build.conf", "[Unit]\nWants=debug-shell.service\n"),
            write(f"{UNITS}/dbus.service", "[Service]\nExecStart=/srv/dbus\n"),
            link(f"{UNITS}/dbus-org.freedesktop.login1.service", "/lib/systemd/system/debug-shell.service"),
            write("usr/lib/systemd/system/service.d/build.conf", "[Service]\nExecStartPre=/srv/x\n"),
            write("usr/local/lib/systemd/system/chrony.service", "[Service]\nExecStart=/srv/chrony\n"),
        ),
        static("test_base::test_unit_files_were_reviewed"),
        (
            "ssh.service.d/10-build.conf",
            "/etc/systemd/system/dbus.service",
            "dbus-org.freedesktop.login1.service",
            "service.d/build.conf",
            "/usr/local/lib/systemd/system/chrony.service",
        ),
    ),
    Defect(
        "a package's addition to a unit, changed",
        change(
            f"{UNITS}/sshd-keygen@.service.d/disable-sshd-keygen-if-cloud-init-active.conf",
            r"\Z",
            "[Unit]\nWants=x\n",
        ),
        static("test_base::test_unit_files_were_reviewed"),
        ("differs from its package", "disable-sshd-keygen-if-cloud-init-active.conf"),
    ),
    Defect(
        "service of init.d",
        link("etc/rc5.d/S01build", "../init.d/build"),
        static("test_base::test_nothing_else_starts_by_itself"),
        ("/etc/init.d/build",),
    ),
    Defect(
        "table of cron",
        write("var/spool/cron/crontabs/root", "@reboot /srv/x\n", 0o600),
        static("test_base::test_nothing_else_starts_by_itself"),
        ("/var/spool/cron/crontabs/root",),
    ),
    Defect(
        "another kernel in GRUB's menu",
        change("boot/grub/grub.cfg", "linux /vmlinuz", "linux /boot/vmlinuz-5.10"),
        static("test_base::test_kernel_is_the_one_that_is_booted"),
        ("/boot/vmlinuz-5.10",),
    ),
    Defect(
        "another root partition in fstab",
        change("etc/fstab", "PARTUUID=....", "PARTUUID=0000"),
        static("test_base::test_root_is_found_by_one_partuuid"),
        ("/etc/fstab says 0000",),
    ),
    Defect(
        "password logins",
        write("etc/ssh/sshd_config.d/00-debug.conf", "PasswordAuthentication yes\n"),
        static("test_base::test_ssh_takes_keys_only"),
        ("passwordauthentication yes",),
    ),
    Defect(
        "password logins of one user",
        write("etc/ssh/sshd_config.d/90-x.conf", "Match User admin\n  PasswordAuthentication yes\n"),
        static("test_base::test_ssh_takes_keys_only"),
        ("Match User admin; passwordauthentication yes",),
    ),
    Defect(
        "keys of somebody else",
        write(
            "etc/ssh/sshd_config.d/05-keys.conf",
            "AuthorizedKeysFile=/srv/keys\nAuthorizedKeysCommand /srv/keys\nTrustedUserCAKeys /srv/ca\n",
        ),
        static("test_base::test_ssh_takes_keys_only"),
        ("authorizedkeysfile /srv/keys", "authorizedkeyscommand /srv/keys", "trustedusercakeys /srv/ca"),
    ),
    Defect(
        "sshd that reads none of our files",
        change("etc/ssh/sshd_config", "^Include .*\n", ""),
        static("test_base::test_ssh_takes_keys_only", "test_hardening::test_sshd_is_set"),
        ("hostkey unset", "ciphers unset"),
    ),
    Defect(
        "password logins by an option of sshd's unit",
        change("etc/default/ssh", "^SSHD_OPTS=.*", 'SSHD_OPTS="-o PasswordAuthentication=yes"'),
        static("test_base::test_ssh_takes_keys_only"),
        ("-o PasswordAuthentication=yes",),
    ),
    Defect(
        "settings of cloud-init after ours",
        write("etc/cloud/cloud.cfg.d/99-build.cfg", "{}\n"),
        static("test_base::test_cloud_init_is_ours"),
        ("99-build.cfg overrides",),
    ),
    Defect(
        "a private time server",
        change("etc/chrony/chrony.conf", "^server 169.254.169.123", "server 10.0.0.1"),
        static("test_base::test_time_comes_from_amazon_or_the_pool"),
        ("does not ask Amazon Time Sync",),
    ),
    Defect(
        "no network",
        change("etc/systemd/network/20-wired.network", "DHCP=ipv4", "DHCP=no"),
        static("test_base::test_network_is_configured"),
        ("no network",),
    ),
    Defect(
        "locale without UTF-8",
        write("etc/default/locale", "LANG=C\n"),
        static("test_base::test_locale_is_utf8"),
        ("not C.UTF-8",),
    ),
    Defect(
        "automatic updates",
        write("etc/apt/apt.conf.d/20kiln", 'APT::Periodic::Enable "1";\n'),
        static("test_base::test_packages_do_not_change_by_themselves"),
        ("by itself",),
    ),
    Defect(
        "a changed program of a package",
        change("usr/bin/ldd", "bash", "sh"),
        static("test_base::test_packages_are_whole"),
        ("/usr/bin/ldd",),
    ),
]

SOUND: dict[str, Any] = {
    "state": "running",
    "failed": [""],
    "units": {"chrony.service": UP, "systemd-resolved.service": UP},
    "machine_id": "0123456789abcdef0123456789abcdef",
    "journals": ["0123456789abcdef0123456789abcdef"],
    "mounted": ["/", "/dev", "/run"],
    "host_keys": {ED25519: 1010.0, f"{ED25519}.pub": 1010.0},
    "booted": 1000.0,
    "release": f"IMAGE=x\nVERSION={VERSION}\n",
    "root_bytes": 38 << 30,
    "free_bytes": 20 << 30,
    "disk_bytes": 40 << 30,
    "kernel": KERNEL,
    "cloud_init": {"v1": {"datasource": "DataSourceNoCloud [seed=/dev/sr0][dsmode=net]", "errors": []}},
    "resolv_conf": "../run/systemd/resolve/stub-resolv.conf",
    "metadata": {"1": [401, ""], "2": [200, "i-0123456789abcdef0"]},
    "sshd": {"root": SSHD, "debian": SSHD},
}

LIVE = [
    Answer(
        "degraded system",
        ("state",),
        "degraded",
        live("test_base::test_system_is_running"),
        ("systemd says degraded",),
    ),
    Answer(
        "failed unit",
        ("failed",),
        ["chrony.service loaded failed failed x", ""],
        live("test_base::test_no_unit_failed"),
        ("chrony.service",),
    ),
    Answer(
        "restarted service",
        ("units", "ssh.service"),
        {"NRestarts": "2"},
        live("test_base::test_no_service_was_restarted"),
        ("ssh.service",),
    ),
    Answer(
        "machine-id left empty",
        ("machine_id",),
        "",
        live("test_base::test_machine_id_is_new"),
        ("machine-id is empty",),
    ),
    Answer(
        "machine-id of zeros",
        ("machine_id",),
        "0" * 32,
        live("test_base::test_machine_id_is_new"),
        ("machine-id is 000",),
    ),
    Answer(
        "machine-id of another boot",
        ("machine_id",),
        "f" * 32,
        live("test_base::test_machine_id_is_new"),
        ("the journal is 0123",),
    ),
    Answer(
        "no journal",
        ("journals",),
        [],
        live("test_base::test_machine_id_is_new"),
        ("the journal is none",),
    ),
    Answer(
        "machine-id not on the disk",
        ("mounted",),
        ["/", "/etc/machine-id"],
        live("test_base::test_machine_id_is_new"),
        ("of this boot alone",),
    ),
    Answer("no host keys", ("host_keys",), {}, live("test_base::test_host_keys_are_fresh"), ("none",)),
    Answer(
        "host key of another kind",
        ("host_keys", "/etc/ssh/ssh_host_rsa_key"),
        1010.0,
        live("test_base::test_host_keys_are_fresh"),
        ("ssh_host_rsa_key",),
    ),
    Answer(
        "host key older than the boot",
        ("host_keys", ED25519),
        10.0,
        live("test_base::test_host_keys_are_fresh"),
        ("older than this boot",),
    ),
    Answer(
        "root file system not grown",
        ("root_bytes",),
        12 << 30,
        live("test_base::test_root_file_system_is_grown"),
        ("30% of the disk",),
    ),
    Answer(
        "disk of unknown size",
        ("disk_bytes",),
        0,
        live("test_base::test_root_file_system_is_grown"),
        ("size of the disk is unknown",),
    ),
    Answer(
        "full disk",
        ("free_bytes",),
        1 << 30,
        live("test_base::test_space_is_left"),
        ("1.0 GiB left",),
    ),
    Answer(
        "no time service",
        ("units", "chrony.service"),
        {},
        live("test_base::test_time_is_synchronised_by_a_service"),
        ("chrony.service is missing",),
    ),
    Answer(
        "another version",
        ("release",),
        "VERSION=another\n",
        live("test_base::test_release_is_the_version"),
        ("another",),
    ),
    Answer(
        "another kernel runs",
        ("kernel",),
        "5.10.0",
        live("test_base::test_kernel_is_the_images"),
        ("runs 5.10.0",),
    ),
    Answer(
        "no result of cloud-init",
        ("cloud_init",),
        {},
        live("test_base::test_cloud_init_is_done_without_errors"),
        ("left no result",),
    ),
    Answer(
        "errors of cloud-init",
        ("cloud_init", "v1", "errors"),
        ["growpart"],
        live("test_base::test_cloud_init_is_done_without_errors"),
        ("growpart",),
    ),
    Answer(
        "cloud-init without a data source",
        ("cloud_init", "v1", "datasource"),
        "DataSourceNone",
        live("test_base::test_cloud_init_is_done_without_errors"),
        ("None",),
    ),
    Answer(
        "sshd takes passwords of one account",
        ("sshd", "debian"),
        SSHD.replace("passwordauthentication no", "passwordauthentication yes"),
        live("test_base::test_ssh_refuses_passwords"),
        ("for debian: passwordauthentication no",),
    ),
    Answer(
        "sshd takes keys of a program",
        ("sshd", "root"),
        SSHD.replace("authorizedkeyscommand none", "authorizedkeyscommand /srv/keys"),
        live("test_base::test_ssh_refuses_passwords"),
        ("for root: authorizedkeyscommand none",),
    ),
    Answer(
        "sshd that says nothing",
        ("sshd",),
        {},
        live("test_base::test_ssh_refuses_passwords"),
        ("sshd was asked of no account",),
    ),
    Answer(
        "resolv.conf is a file",
        ("resolv_conf",),
        False,
        live("test_base::test_names_are_resolved_by_systemd"),
        ("is a file",),
    ),
    Answer(
        "no resolver",
        ("units", "systemd-resolved.service"),
        {},
        live("test_base::test_names_are_resolved_by_systemd"),
        ("missing",),
    ),
    Answer(
        "metadata for whoever asks",
        ("metadata", "1"),
        [200, "i-0123456789abcdef0"],
        live("test_base::test_instance_metadata_is_refused_by_version_1"),
        ("without a token the metadata service answers 200",),
    ),
    Answer(
        "no metadata service",
        ("metadata",),
        {"1": [0, "timed out"], "2": [0, "timed out"]},
        live(
            "test_base::test_instance_metadata_is_refused_by_version_1",
            "test_base::test_instance_metadata_answers_by_version_2",
        ),
        ("timed out",),
    ),
    Answer(
        "metadata of nobody",
        ("metadata", "2"),
        [200, ""],
        live("test_base::test_instance_metadata_answers_by_version_2"),
        ("names the instance nothing",),
    ),
]
