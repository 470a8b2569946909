"""Defects of the studies on EFS: a tunnel that trusts, a server that does not wait, a disk written to."""

from __future__ import annotations

from tests.defects.defect import Answer, Defect, change, gone, live, mode, several, static, write
from tests.image.nfs import MASKED

UNITS = "etc/systemd/system"
PROGRAM = "usr/local/lib/kiln"
RENDERED = f"{PROGRAM}/kiln_efs/units.py"

STATIC = [
    Defect(
        "tunnel that is not there",
        gone("usr/bin/stunnel4"),
        static("test_efs_client::test_client_is_there", "test_base::test_packages_are_whole"),
        ("missing: /usr/bin/stunnel4",),
    ),
    Defect(
        "kernel without an NFS client",
        gone("usr/lib/modules/*/kernel/fs/nfs/nfsv4.ko*"),
        static("test_efs_client::test_kernel_has_the_client", "test_base::test_packages_are_whole"),
        ("no NFSv4 client",),
    ),
    Defect(
        "tunnel that takes any host's certificate",
        change(RENDERED, "^checkHost = .*\n", ""),
        static("test_efs_client::test_tunnel_checks_certificate_and_name"),
        ("checkHost unset",),
    ),
    Defect(
        "tunnel that takes anybody's certificate",
        change(RENDERED, "^verifyChain = yes", "verifyChain = no"),
        static("test_efs_client::test_tunnel_checks_certificate_and_name"),
        ("verifyChain no",),
    ),
    Defect(
        "tunnel of root",
        change(f"{UNITS}/kiln-efs-tunnel.service", "^User=.*\n", ""),
        static("test_efs_client::test_tunnel_is_not_root"),
        ("runs as root",),
    ),
    Defect(
        "tunnel restarted without end",
        change(f"{UNITS}/kiln-efs-tunnel.service", "^StartLimitIntervalSec=.*", "StartLimitIntervalSec=0"),
        static("test_efs_client::test_retries_are_bounded"),
        ("kiln-efs-tunnel.service has no StartLimitIntervalSec",),
    ),
    Defect(
        "refusals tried without end",
        change(f"{PROGRAM}/kiln_efs/watch.py", "^REFUSALS = .*", "REFUSALS = 10**9"),
        static("test_efs_client::test_retries_are_bounded"),
        ("1000000000 times",),
    ),
    Defect(
        "watcher started without settings",
        several(
            write(f"{UNITS}/multi-user.target.wants/kiln-efs.service"),
            change(f"{UNITS}/kiln-efs.service", "^ConditionPathExists=.*\n", ""),
        ),
        # A unit that is started by itself is one that nobody reviewed, too.
        static(
            "test_efs_client::test_without_settings_nothing_runs", "test_base::test_no_other_unit_is_enabled"
        ),
        ("started without settings",),
    ),
    Defect(
        "watcher not started by settings",
        change(RENDERED, "multi-user.target", "rescue.target"),
        static("test_efs_client::test_settings_start_the_watcher"),
        ("do not start",),
    ),
    Defect(
        "mount that gives up",
        change(RENDERED, "sec=sys,hard,", "sec=sys,soft,"),
        static("test_efs_client::test_mount_waits_and_loses_nothing"),
        ("soft",),
    ),
    Defect(
        "server that does not wait for its studies",
        change(RENDERED, "^BindsTo=.*\n", ""),
        static("test_efs_client::test_server_demands_the_mount"),
        ("by BindsTo",),
    ),
    Defect(
        "open mount point",
        mode("mnt/studies", 0o755),
        static("test_efs_client::test_bare_mount_point_is_closed"),
        ("/mnt/studies is d 755 0:0",),
    ),
    Defect(
        "mount point that no boot seals",
        change("etc/systemd/system-generators/kiln-efs", "^ln .*\n", ""),
        static("test_efs_client::test_bare_mount_point_is_sealed_at_boot"),
        ("a boot without settings does not seal /mnt/studies",),
    ),
    Defect(
        "mount point sealed after user data",
        change(f"{UNITS}/kiln-efs-point.service", "^Before=cloud-init.service ", "Before="),
        static("test_efs_client::test_bare_mount_point_is_sealed_at_boot"),
        ("not before cloud-init.service",),
    ),
    Defect(
        "mount point sealed without settings alone",
        change(
            f"{UNITS}/kiln-efs-point.service",
            "^ConditionVirtualization=",
            "ConditionPathExists=!/etc/kiln/efs.env\n\\g<0>",
        ),
        static("test_efs_client::test_bare_mount_point_is_sealed_at_boot"),
        ("may be skipped", "ConditionPathExists"),
    ),
    Defect(
        "file beneath the mount",
        write("mnt/studies/lost.dcm"),
        static("test_efs_client::test_bare_mount_point_is_closed"),
        ("beneath the mount lies /mnt/studies/lost.dcm",),
    ),
    Defect(
        "port mapper, NFS's other services and the tunnel's own unit unmasked",
        gone(*(f"{UNITS}/{name}" for name in MASKED)),
        static("test_efs_client::test_nothing_else_of_nfs_runs", "test_base::test_no_other_unit_is_enabled"),
        ("rpcbind.socket is not masked",),
    ),
    Defect(
        "mount helper with SUID",
        mode("usr/sbin/mount.nfs", 0o4755),
        static("test_efs_client::test_only_root_mounts", "test_seal::test_suid_files_were_reviewed"),
        ("mount.nfs makes everybody root",),
    ),
    Defect(
        "program that a group may change",
        mode(RENDERED, 0o664),
        static("test_efs_client::test_programs_belong_to_root"),
        ("units.py",),
    ),
]

SOUND = {
    "efs": {
        "settings": False,
        "states": {"kiln-efs": "inactive", "kiln-efs-tunnel": "inactive", "kiln-efs-check": "inactive"},
        "attempt": {
            "code": 1,
            "said": "<3>127.0.0.1:9 does not answer (Connection refused), after 3 attempts; see that the file"
            " system has a mount target in this zone that lets this machine reach its port",
            "seconds": 4.0,
        },
        "immutable": True,
        "point": [0, 0, 0],
        "write": "EPERM",
        "sockets": ["00000000:0016", "0100007F:0143"],
    }
}

LIVE = [
    Answer(
        "settings of somebody's EFS",
        ("efs", "settings"),
        True,
        live("test_efs_client::test_studies_are_local_without_settings"),
        ("brings settings",),
    ),
    Answer(
        "watcher running without settings",
        ("efs", "states", "kiln-efs"),
        "active",
        live("test_efs_client::test_studies_are_local_without_settings"),
        ("kiln-efs",),
    ),
    Answer(
        "dead EFS taken for a mounted one",
        ("efs", "attempt", "code"),
        0,
        live("test_efs_client::test_dead_file_system_is_a_clear_error"),
        ("ended in 0",),
    ),
    Answer(
        "dead EFS without a word why",
        ("efs", "attempt", "said"),
        "after 3 attempts: TimeoutError",
        live("test_efs_client::test_dead_file_system_is_a_clear_error"),
        ("TimeoutError",),
    ),
    Answer(
        "dead EFS tried for minutes",
        ("efs", "attempt", "seconds"),
        300.0,
        live("test_efs_client::test_attempts_are_bounded"),
        ("300 s",),
    ),
    Answer(
        "mount point sealed by the first attempt alone",
        ("efs", "immutable"),
        False,
        live("test_efs_client::test_bare_mount_point_is_sealed_by_the_boot"),
        ("is not immutable",),
    ),
    Answer(
        "studies beneath the mount",
        ("efs", "write"),
        "written",
        live("test_efs_client::test_bare_mount_point_takes_nothing"),
        ("got written",),
    ),
    Answer(
        "mount point for everybody",
        ("efs", "point"),
        [0o755, 0, 0],
        live("test_efs_client::test_bare_mount_point_takes_nothing"),
        ("is 755 0:0",),
    ),
    Answer(
        "port mapper open",
        ("efs", "sockets"),
        ["00000000:006F", "00000000:0016"],
        live("test_efs_client::test_no_port_mapper_listens"),
        ("00000000:006F",),
    ),
]
