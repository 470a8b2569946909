"""The live checks on what a guest might say: a sound one passes all, and each defect is seen by its check."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.image.live import test_base as base
from tests.image.live import test_monai_label as monai_label

Guest = dict[str, Any]

VERSION = "20260102T030405Z-89abcdef"
UP = {"ActiveState": "active", "NRestarts": "0", "MainPID": "400"}
SOUND: Guest = {
    "state": "running",
    "failed": [""],
    "units": {f"{name}.service": UP for name in ("chrony", "systemd-resolved", "monai-label")},
    "machine_id": "0123456789abcdef0123456789abcdef",
    "journals": ["0123456789abcdef0123456789abcdef"],
    "mounted": ["/", "/dev", "/run"],
    "host_keys": {"/etc/ssh/ssh_host_ed25519_key": 1010.0, "/etc/ssh/ssh_host_ed25519_key.pub": 1010.0},
    "booted": 1000.0,
    "release": f"IMAGE=x\nVERSION={VERSION}\n",
    "root_bytes": 38 << 30,
    "disk_bytes": 40 << 30,
    "kernel": "6.1.0-1-cloud-amd64",
    "cloud_init": {"v1": {"datasource": "DataSourceNoCloud [seed=/dev/sr0][dsmode=net]", "errors": []}},
    "resolv_conf": "../run/systemd/resolve/stub-resolv.conf",
    "sshd": "permitrootlogin without-password\npasswordauthentication no\nkbdinteractiveauthentication no\n",
    "listening": "sl local rem st\n0: 00000000:1F40 00000000:0000 0A\n1: 0100007F:0016 00000000:0000 01\n",
    "process": {
        "Uid": "10001\t10001\t10001\t10001",
        "Gid": "10001\t10001\t10001\t10001",
        "NoNewPrivs": "1",
        "CapEff": "0000000000000000",
        "CapPrm": "0000000000000000",
        "CapBnd": "0000000000000000",
        "CapAmb": "0000000000000000",
    },
    "mounts": "60 59 0:1 / / ro,relatime - ext4 x ro\n"
    "61 60 0:1 /a /var/lib/monai-label rw,relatime - ext4 x rw\n"
    "62 60 0:1 /b /tmp rw,relatime - ext4 x rw\n",
    "studies": [0o42770, 10001, 10001],
    "info": [200, {"models": {"segmentation_spleen": {}}}],
}
CHECKS = {
    f"{module.__name__.rpartition('.')[2]}::{name}": check
    for module in (base, monai_label)
    for name, check in inspect.getmembers(module, inspect.isfunction)
    if name.startswith("test_")
}

# Check → where the guest differs, what it says instead, and words of the refusal.
DEFECTS: list[tuple[str, list[str], Any, str]] = [
    ("test_base::test_system_is_running", ["state"], "degraded", "systemd says degraded"),
    (
        "test_base::test_no_unit_failed",
        ["failed"],
        ["chrony.service loaded failed failed x", ""],
        "chrony.service",
    ),
    ("test_base::test_no_service_was_restarted", ["units", "ssh.service"], {"NRestarts": "2"}, "ssh.service"),
    ("test_base::test_no_service_was_restarted", ["units"], {}, "lists no service"),
    ("test_base::test_machine_id_is_new", ["machine_id"], "", "machine-id is empty"),
    ("test_base::test_machine_id_is_new", ["machine_id"], "0" * 32, "machine-id is 000"),
    ("test_base::test_machine_id_is_new", ["machine_id"], "f" * 32, "the journal is 0123"),
    ("test_base::test_machine_id_is_new", ["journals"], [], "the journal is none"),
    ("test_base::test_machine_id_is_new", ["mounted"], ["/", "/etc/machine-id"], "of this boot alone"),
    ("test_base::test_host_keys_are_fresh", ["host_keys"], {}, "none"),
    (
        "test_base::test_host_keys_are_fresh",
        ["host_keys", "/etc/ssh/ssh_host_rsa_key"],
        1010.0,
        "ssh_host_rsa_key",
    ),
    (
        "test_base::test_host_keys_are_fresh",
        ["host_keys", "/etc/ssh/ssh_host_ed25519_key"],
        10.0,
        "older than this boot",
    ),
    ("test_base::test_root_file_system_is_grown", ["root_bytes"], 12 << 30, "30% of the disk"),
    (
        "test_base::test_time_is_synchronised_by_a_service",
        ["units", "chrony.service"],
        {},
        "chrony.service is missing",
    ),
    ("test_base::test_release_is_the_version", ["release"], "VERSION=another\n", "another"),
    ("test_base::test_kernel_is_the_images", ["kernel"], "5.10.0", "runs 5.10.0"),
    ("test_base::test_cloud_init_is_done_without_errors", ["cloud_init"], {}, "left no result"),
    (
        "test_base::test_cloud_init_is_done_without_errors",
        ["cloud_init", "v1", "errors"],
        ["growpart"],
        "growpart",
    ),
    (
        "test_base::test_cloud_init_is_done_without_errors",
        ["cloud_init", "v1", "datasource"],
        "DataSourceNone",
        "None",
    ),
    (
        "test_base::test_ssh_refuses_passwords",
        ["sshd"],
        "passwordauthentication yes\n",
        "passwordauthentication no",
    ),
    ("test_base::test_names_are_resolved_by_systemd", ["resolv_conf"], False, "is a file"),
    ("test_base::test_names_are_resolved_by_systemd", ["units", "systemd-resolved.service"], {}, "missing"),
    (
        "test_monai_label::test_service_is_up_at_the_first_attempt",
        ["units", "monai-label.service"],
        {},
        "missing",
    ),
    (
        "test_monai_label::test_service_is_up_at_the_first_attempt",
        ["units", "monai-label.service", "NRestarts"],
        "1",
        "restarted 1 times",
    ),
    ("test_monai_label::test_server_answers", ["info"], [500, "HTTPError()"], "answered 500"),
    ("test_monai_label::test_server_answers", ["info"], [200, {"models": {}}], "no model"),
    (
        "test_monai_label::test_server_listens_for_clients",
        ["listening"],
        "sl\n0: 0100007F:1F40 0:0 0A\n",
        "0100007F",
    ),
    ("test_monai_label::test_server_runs_as_its_user", ["process", "Uid"], "0\t0\t0\t0", "uids are 0"),
    ("test_monai_label::test_server_runs_as_its_user", ["process", "Gid"], "0\t0\t0\t0", "gids are 0"),
    (
        "test_monai_label::test_server_cannot_gain_privileges",
        ["process", "NoNewPrivs"],
        "0",
        "gain privileges",
    ),
    (
        "test_monai_label::test_server_cannot_gain_privileges",
        ["process", "CapBnd"],
        "000001ffffffffff",
        "CapBnd",
    ),
    (
        "test_monai_label::test_server_writes_to_its_own_folder_only",
        ["mounts"],
        "60 59 0:1 / / rw - ext4 x rw\n",
        "as rw",
    ),
    ("test_monai_label::test_studies_are_shared_by_group", ["studies"], [0o40755, 0, 0], "755 0:0"),
]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root that was booted."""
    for folder in ("etc/ssh", f"usr/lib/modules/{SOUND['kernel']}"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setenv("KILN_ROOT", str(tmp_path))
    monkeypatch.setenv("KILN_VERSION", VERSION)
    return tmp_path


@pytest.mark.parametrize("name", CHECKS)
def test_sound_guest_passes(name: str) -> None:
    check: Callable[[Guest], None] = CHECKS[name]
    check(copy.deepcopy(SOUND))


def test_every_check_has_a_defect() -> None:
    assert {name for name, *_ in DEFECTS} == set(CHECKS)


@pytest.mark.parametrize(("name", "where", "says", "words"), DEFECTS)
def test_check_sees_its_defect(name: str, where: list[str], says: Any, words: str) -> None:
    guest = copy.deepcopy(SOUND)
    place = guest
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = says
    with pytest.raises(AssertionError) as refusal:
        CHECKS[name](guest)
    assert words in str(refusal.value)


def test_host_keys_of_the_image_are_seen(root: Path) -> None:
    (root / "etc/ssh/ssh_host_ed25519_key").write_text("")
    with pytest.raises(AssertionError, match="the image brings ssh host keys"):
        base.test_host_keys_are_fresh(copy.deepcopy(SOUND))
