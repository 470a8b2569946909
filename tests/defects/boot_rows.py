"""Rows that a boot shows, with how each is planted: ``boots.py`` boots them.

A container has the kernel, the disk and the clock of this machine: what a sound one fails for that,
``guests.py`` plants in a guest.
"""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
import threading
from pathlib import Path

from scripts import imds
from tests.defects.defect import Defect, Plant, change, found, gone, link, mode, several, write
from tests.defects.defect import live as seen_live

UNITS = "etc/systemd/system"
WANTED = f"{UNITS}/multi-user.target.wants"
SERVER = "monai-label.service"
SERVED = ("::test_monai_label::", "::test_health::test_served_guest_is_ready")
"""One is in the name of each check that needs the server, whose start takes longer than a boot."""

DIFFER = "boot::two boots differ"
VERSION_2 = "boot::metadata is asked by version 2 alone"
_ONE_PAIR = threading.Lock()


def old(name: str) -> Plant:
    """Make a file as old as an image is when it is booted."""

    def plant(root: Path) -> None:
        for path in found(root, name):
            os.utime(path, (1e9, 1e9))

    return plant


def pair() -> tuple[str, str]:
    """A host key, private and public; both boots of an image have the same, also at once."""
    with _ONE_PAIR:
        return _pair()


def needs_server(check: str) -> bool:
    """Whether a check has nothing to ask without the server."""
    return any(part in check for part in SERVED)


def unit(name: str, text: str) -> Plant:
    """Put a service that every boot starts."""
    return several(write(f"{UNITS}/{name}", text), link(f"{WANTED}/{name}", f"/{UNITS}/{name}"))


def served(name: str, text: str) -> Plant:
    """Give the server's unit further settings."""
    return write(f"{UNITS}/{SERVER}.d/{name}.conf", f"[Service]\n{text}")


@functools.cache
def _pair() -> tuple[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key], check=True)
        return key.read_text(), key.with_suffix(".pub").read_text()


IMDS = "opt/kiln-imds"
IMDS_PORT = 8169
"""What asks the address of the metadata service is led here: nginx has port 80 of every address."""

METADATA = several(
    write(f"{IMDS}/scripts/imds.py", Path(imds.__file__).read_text()),
    write(
        f"{UNITS}/kiln-imds.socket",
        f"[Socket]\nListenStream=127.0.0.1:{IMDS_PORT}\nAccept=yes\n",
    ),
    write(
        f"{UNITS}/kiln-imds@.service",
        f"[Service]\nWorkingDirectory=/{IMDS}\nStandardInput=socket\nStandardError=journal\n"
        f"ExecStart=-/usr/bin/python3 -m scripts.imds secret /{IMDS}/log\n",
    ),
    link(f"{UNITS}/sockets.target.wants/kiln-imds.socket", f"/{UNITS}/kiln-imds.socket"),
)
"""The proof's metadata service, in the container itself: each connection starts a unit."""

WITHOUT_TOKEN = (
    "import urllib.request as r\n"
    f"try: r.urlopen('http://{imds.ADDRESS}/latest/meta-data/instance-id', timeout=20)\n"
    "except OSError: pass\n"
)

GROUPS: list[list[Defect]] = [
    [
        Defect(
            "a server on another port",
            change("etc/kiln/monai-label.env", "^KILN_SERVE_PORT=.*", "KILN_SERVE_PORT=8001"),
            seen_live(
                "test_monai_label::test_server_answers",
                "test_monai_label::test_server_is_reached_by_the_gateway_alone",
                # To those who ask it on its port it hangs.
                "test_health::test_instance_is_healthy",
                "test_health::test_served_guest_is_ready",
            ),
            ("answered 0", "port 8000 is open on no address", "GET /healthz answers 503", "does not answer"),
        ),
        Defect(
            "a server that is root, with root's capabilities",
            served("root", "User=root\nGroup=root\nCapabilityBoundingSet=~\n"),
            seen_live(
                "test_monai_label::test_server_runs_as_its_user",
                "test_monai_label::test_server_cannot_gain_privileges",
            ),
            ("uids are 0", "holds capabilities: CapEff"),
        ),
        Defect(
            "a server that may write everywhere",
            served("writes", "ProtectSystem=no\n"),
            seen_live("test_monai_label::test_server_writes_to_its_own_folder_only"),
            ("sees / as rw",),
        ),
        Defect(
            "a server that crashes once",
            served(
                "crash",
                "RestartSec=0\n"
                "ExecStartPre=+/bin/sh -c 'if test ! -e /run/crashed; then touch /run/crashed; exit 1; fi'\n",
            ),
            seen_live(
                "test_monai_label::test_service_is_up_at_the_first_attempt",
                "test_base::test_no_service_was_restarted",
            ),
            ("was restarted 1 times", "restarted since the boot: monai-label.service"),
        ),
        Defect(
            "studies whose files are not the group's",
            mode("var/lib/monai-label/studies", 0o770),
            seen_live("test_monai_label::test_studies_are_shared_by_group"),
            ("studies are 770",),
        ),
        Defect(
            "a readahead whose list is empty",
            write("opt/monai-label/readahead.list", ""),
            seen_live("test_monai_label::test_readahead_has_read"),
            ("the readahead read 0 bytes",),
        ),
        Defect(
            "a log that nobody rotates",
            change("etc/logrotate.d/kiln", " /var/log/cloud-init-output.log", ""),
            seen_live("test_agents::test_logs_of_the_boot_were_rotated"),
            ("rotated: /var/log/cloud-init.log.1.gz",),
        ),
        Defect(
            "a rotation without its timer",
            gone(f"{UNITS}/timers.target.wants/logrotate.timer"),
            seen_live("test_agents::test_rotation_has_a_timer"),
            ("logrotate.timer is inactive",),
        ),
        Defect(
            "password logins, as sshd reads its settings",
            write("etc/ssh/sshd_config.d/00-debug.conf", "PasswordAuthentication yes\n"),
            seen_live("test_base::test_ssh_refuses_passwords"),
            ("passwordauthentication no",),
        ),
        Defect(
            "an sshd that forwards agents, as it reads its settings",
            write("etc/ssh/sshd_config.d/01-jump.conf", "AllowAgentForwarding yes\n"),
            seen_live("test_hardening::test_sshd_runs_as_set"),
            ("allowagentforwarding yes",),
        ),
        Defect(
            "services that may dump core",
            gone("etc/systemd/system.conf.d/60-kiln-core-dumps.conf"),
            seen_live("test_hardening::test_services_dump_no_core"),
            ("bytes of core",),
        ),
        Defect(
            "services without AWS's switch against version 1",
            gone("etc/systemd/system.conf.d/60-kiln-metadata.conf"),
            seen_live("test_hardening::test_services_ask_metadata_by_version_2"),
            ("fall back to metadata version 1",),
        ),
        Defect(
            "a journal in memory",
            change("etc/systemd/journald.conf.d/60-kiln.conf", "^Storage=.*", "Storage=volatile"),
            seen_live("test_hardening::test_journal_is_on_the_disk"),
            ("lost with the next boot",),
        ),
        Defect(
            "a document of settings that is refused, while an earlier one counts",
            several(
                write("etc/kiln/settings.toml", "schema = 999\n"),
                write("var/lib/kiln/settings/generation-1/settings.toml", "schema = 1\n"),
                link("var/lib/kiln/settings/current", "generation-1"),
            ),
            seen_live(
                "test_settings::test_settings_were_judged_and_count",
                "test_base::test_system_is_running",
                "test_base::test_no_unit_failed",
            ),
            (
                "kiln-settings.service is failed: schema is 999",
                "degraded",
                "failed units: kiln-settings.service",
            ),
        ),
        Defect(
            "a drain that no boot starts",
            gone(f"{WANTED}/kiln-drain.service"),
            seen_live("test_health::test_health_and_drain_run"),
            ("kiln-drain.service is",),
        ),
        Defect(
            "the release of another version",
            change("etc/image-release", "^VERSION=.*", "VERSION=another"),
            seen_live("test_base::test_release_is_the_version"),
            ("/etc/image-release says another",),
        ),
        Defect(
            "rpcbind no longer masked",
            gone(f"{UNITS}/rpcbind.socket", f"{UNITS}/rpcbind.service"),
            seen_live("test_efs_client::test_no_port_mapper_listens"),
            ("rpcbind listens on", ":006F"),
        ),
        Defect(
            "a metadata service that answers without a token",
            change(f"{IMDS}/scripts/imds.py", "if not is_valid", "if False and not is_valid"),
            seen_live("test_base::test_instance_metadata_is_refused_by_version_1"),
            ("without a token the metadata service answers 200",),
        ),
        Defect(
            "a metadata service that names nobody",
            change(f"{IMDS}/scripts/imds.py", '"meta-data/instance-id": .*', '"meta-data/instance-id": "",'),
            seen_live("test_base::test_instance_metadata_answers_by_version_2"),
            ("names the instance nothing",),
        ),
    ],
    [
        Defect(
            "the driver's daemon, started although there is no GPU",
            gone(f"{UNITS}/nvidia-persistenced.service.d/10-kiln.conf"),
            seen_live(
                "test_nvidia::test_persistenced_runs_where_there_is_a_gpu",
                "test_base::test_system_is_running",
                "test_base::test_no_unit_failed",
            ),
            ("nvidia-persistenced.service is failed", "degraded", "failed units: nvidia-pers"),
        ),
        Defect(
            "a service that needs a second attempt",
            unit(
                "shaky.service",
                "[Service]\nRestart=on-failure\nRestartSec=0\n"
                "ExecStart=/bin/sh -c 'if mkdir /run/shaky; then exit 1; fi; exec sleep infinity'\n",
            ),
            seen_live("test_base::test_no_service_was_restarted"),
            ("shaky.service",),
        ),
        Defect(
            "an nginx that asks nobody who gets in",
            change("etc/nginx/judged.conf", "^auth_request .*\n", ""),
            seen_live("test_gateway::test_nobody_gets_in_without_a_log_in"),
            # Passed on, to a server that does not run here.
            ("without a token GET /info/ answers 502",),
        ),
        Defect(
            "nobody who resolves names",
            gone(
                f"{UNITS}/sysinit.target.wants/systemd-resolved.service",
                f"{UNITS}/dbus-org.freedesktop.resolve1.service",
            ),
            seen_live("test_base::test_names_are_resolved_by_systemd"),
            ("systemd-resolved.service is",),
        ),
        Defect(
            "device files of GPUs that are not there",
            # Its own unit fails without a GPU, and systemd would then be degraded, as it is by the daemon.
            write(
                f"{UNITS}/kiln-gpu.service.d/force.conf",
                "[Service]\nExecCondition=\nExecStart=\nExecStart=/bin/true\n",
            ),
            seen_live("test_nvidia::test_every_gpu_has_its_device_files"),
            ("kiln-gpu.service is active",),
        ),
        Defect(
            "a program that asks for metadata without a token",
            several(
                write("opt/old-agent.py", WITHOUT_TOKEN),
                unit(
                    "old-agent.service",
                    "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
                    "ExecStart=/usr/bin/python3 /opt/old-agent.py\n",
                ),
            ),
            frozenset({VERSION_2}),
            ("Python-urllib", "by version 1"),
        ),
    ],
    [
        Defect(
            "a server that no boot starts",
            gone(f"{WANTED}/{SERVER}"),
            seen_live(
                "test_monai_label::test_service_is_up_at_the_first_attempt",
                "test_monai_label::test_server_answers",
                "test_monai_label::test_server_is_reached_by_the_gateway_alone",
                "test_health::test_served_guest_is_ready",
                "test_monai_label::test_server_runs_as_its_user",
                "test_monai_label::test_server_cannot_gain_privileges",
                "test_monai_label::test_server_writes_to_its_own_folder_only",
            ),
            ("monai-label.service is missing", "not running"),
        ),
        Defect(
            "a readahead that is not started",
            gone(f"{WANTED}/kiln-readahead.service"),
            seen_live("test_monai_label::test_readahead_has_read"),
            ("did not run to its end",),
        ),
        Defect(
            # One that no boot starts is started by its socket, at the first question, which is kiln-health's.
            "a log-in that is masked",
            link(f"{UNITS}/kiln-auth.service", "/dev/null"),
            seen_live(
                "test_gateway::test_gateway_runs",
                "test_gateway::test_nobody_gets_in_without_a_log_in",
            ),
            ("kiln-auth.service is", "nobody can be let in now"),
        ),
        Defect(
            "a unit that fails in each boot",
            unit("broken.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n"),
            seen_live("test_base::test_system_is_running", "test_base::test_no_unit_failed"),
            ("degraded", "broken.service"),
        ),
        Defect(
            "settings of somebody's EFS, seen by a boot",
            write("etc/kiln/efs.env", "EFS_HOST=fs-0123456789abcdef0.efs.us-east-1.amazonaws.com\n"),
            seen_live("test_efs_client::test_studies_are_local_without_settings"),
            ("brings settings of somebody's EFS",),
        ),
        Defect(
            "a boot without a data source",
            write("etc/cloud/cloud.cfg.d/99-none.cfg", "datasource_list: [None]\n"),
            seen_live("test_base::test_cloud_init_is_done_without_errors"),
            ("cloud-init used DataSourceNone",),
        ),
        Defect(
            "a machine-id that a unit writes anew",
            unit(
                "identity.service",
                "[Service]\nType=oneshot\n"
                "ExecStart=/bin/sh -c 'echo 0123456789abcdef0123456789abcdef > /etc/machine-id'\n",
            ),
            seen_live("test_base::test_machine_id_is_new"),
            ("machine-id is 0123456789abcdef0123456789abcdef, the journal is",),
        ),
    ],
    [
        Defect(
            "a machine-id of the image",
            write("etc/machine-id", "0123456789abcdef0123456789abcdef\n", 0o444),
            frozenset({DIFFER}),
            ("the same machine-id 0123",),
        ),
    ],
    [
        Defect(
            "a host key of the image that cloud-init keeps",
            several(
                change("etc/cloud/cloud.cfg.d/90-kiln.cfg", "ssh_deletekeys: true", "ssh_deletekeys: false"),
                lambda root: write("etc/ssh/ssh_host_ed25519_key", pair()[0], 0o600)(root),
                lambda root: write("etc/ssh/ssh_host_ed25519_key.pub", pair()[1])(root),
                old("etc/ssh/ssh_host_*"),
            ),
            frozenset({DIFFER, *seen_live("test_base::test_host_keys_are_fresh")}),
            ("the same host key", "older than this boot"),
        ),
    ],
]  # fmt: skip
"""Rows that share a container; no two of a group make the same check fail."""

DEFECTS = [row for group in GROUPS for row in group]
