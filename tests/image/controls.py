"""What the controls of the role hardening promise of an image's files and of its running kernel."""

from __future__ import annotations

import datetime
import json
from typing import Any

RECORD = "/etc/kiln/hardening.json"

CONTROLS = {
    "ssh", "ssh_crypto", "sysctl", "network", "modules", "journald", "updates", "metadata", "core_dumps",
    "accounts", "su", "sudo", "mounts",
}  # fmt: skip
"""Those that an image has, or waives."""

OPTIONAL = {"auditd"}

SSHD = {
    "ssh": {
        "allowagentforwarding": "no",
        "clientalivecountmax": "3",
        "clientaliveinterval": "60",
        "gatewayports": "no",
        "gssapiauthentication": "no",
        "hostbasedauthentication": "no",
        "loglevel": "VERBOSE",
        "logingracetime": "60",
        "maxauthtries": "4",
        "maxstartups": "10:30:60",
        "permitemptypasswords": "no",
        "permittunnel": "no",
        "permituserenvironment": "no",
    },
    "ssh_crypto": {
        "ciphers": "chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr,"
        "aes128-ctr",
        "kexalgorithms": "sntrup761x25519-sha512@openssh.com,curve25519-sha256,curve25519-sha256@libssh.org,"
        "diffie-hellman-group16-sha512,diffie-hellman-group18-sha512",
        "macs": "hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm@openssh.com",
        "requiredrsasize": "2048",
    },
}
"""Control → settings of sshd, as ``sshd -T`` names them."""

SYSCTL = {
    "sysctl": {
        "dev.tty.ldisc_autoload": "0",
        "fs.protected_fifos": "1",
        "fs.protected_hardlinks": "1",
        "fs.protected_regular": "2",
        "fs.protected_symlinks": "1",
        "kernel.dmesg_restrict": "1",
        "kernel.kexec_load_disabled": "1",
        "kernel.kptr_restrict": "1",
        "kernel.perf_event_paranoid": "3",
        "kernel.randomize_va_space": "2",
        "kernel.unprivileged_bpf_disabled": "1",
        "kernel.unprivileged_userns_clone": "0",
        "kernel.yama.ptrace_scope": "1",
        "net.core.bpf_jit_harden": "2",
        "vm.unprivileged_userfaultfd": "0",
    },
    "network": {
        **{
            f"net.ipv4.conf.{where}.{what}": value
            for where in ("all", "default")
            for what, value in (
                ("accept_redirects", "0"),
                ("accept_source_route", "0"),
                ("log_martians", "1"),
                ("rp_filter", "1"),
                ("secure_redirects", "0"),
                ("send_redirects", "0"),
            )
        },
        **{
            f"net.ipv6.conf.{where}.{what}": "0"
            for where in ("all", "default")
            for what in ("accept_ra", "accept_redirects", "accept_source_route")
        },
        "net.ipv4.icmp_echo_ignore_broadcasts": "1",
        "net.ipv4.icmp_ignore_bogus_error_responses": "1",
        "net.ipv4.ip_forward": "0",
        "net.ipv4.tcp_syncookies": "1",
        "net.ipv6.conf.all.forwarding": "0",
    },
    "core_dumps": {"fs.suid_dumpable": "0", "kernel.core_pattern": "|/bin/false"},
}
"""Control → settings of the kernel."""

MODULES = {
    "cramfs", "dccp", "firewire-core", "freevxfs", "hfs", "hfsplus", "jffs2", "rds", "sctp", "squashfs",
    "sysv", "tipc", "udf", "usb-storage",
}  # fmt: skip
"""Kernel modules that an instance never uses."""

NEEDED = {
    "ena", "ext4", "fuse", "iso9660", "nfs", "nfsv4", "nvidia", "nvidia-uvm", "nvme", "overlay", "sunrpc",
    "tls", "vfat",
}  # fmt: skip
"""Kernel modules that an instance may need: cloud-init's seed, EFS, the GPU, disks and network of EC2."""


def waivers(record: str) -> list[dict[str, Any]]:
    """Return every waiver of an image, also those that do not count.

    Parameters
    ----------
    record:
        Content of :data:`RECORD`; empty where the image has none.
    """
    found: list[dict[str, Any]] = json.loads(record or "{}").get("waivers", [])
    return found


def uncounted(waiver: dict[str, Any], today: datetime.date | None = None) -> str:
    """Return why a waiver does not count, empty where it does.

    Parameters
    ----------
    waiver:
        As the role's variables have it: control, reason and until.
    today:
        The day, of UTC where there is none.
    """
    until = str(waiver.get("until", ""))
    if waiver.get("control") not in CONTROLS | OPTIONAL:
        return "no control"
    if not str(waiver.get("reason") or "").strip():
        return "no reason"
    try:
        last = datetime.date.fromisoformat(until)
    except ValueError:
        return "no day"
    return "" if last >= (today or datetime.datetime.now(datetime.UTC).date()) else "over"


def waived(record: str) -> set[str]:
    """Return the controls that an image does without, by waivers that count.

    Parameters
    ----------
    record:
        Content of :data:`RECORD`; empty where the image has none.
    """
    return {str(one["control"]) for one in waivers(record) if not uncounted(one)}
