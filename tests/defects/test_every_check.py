"""Every static check sees its defect: all are planted in one layer over the real root, and each must fail.

A check without a row fails this test: nobody has seen it refuse anything.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kiln import paths
from kiln.manifest import Check
from scripts import checks, layer
from tests.image.sandbox import SANDBOX

ROLES = ("base", "monai_label", "seal")
OPT = "opt/monai-label"
SITE = f"{OPT}/venv/lib/python3.11/site-packages"
HOME = "var/lib/monai-label"
APP = f"{HOME}/apps/radiology"
UNITS = "etc/systemd/system"

Plant = Callable[[Path], object]


def write(name: str, text: str = "x\n", mode: int = 0o644) -> Plant:
    """Put a file where none should be, or another text where it should be."""

    def plant(root: Path) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(mode)

    return plant


def change(name: str, pattern: str, to: str) -> Plant:
    """Change a text in place; the defect must have something to change."""

    def plant(root: Path) -> None:
        text = (root / name).read_text()
        changed = re.sub(pattern, to, text, flags=re.MULTILINE)
        assert changed != text, f"{name} has no {pattern}"
        (root / name).write_text(changed)

    return plant


def gone(*patterns: str) -> Plant:
    """Take away every path that matches."""

    def plant(root: Path) -> None:
        # The last letter as a class: glob follows a link that is named plainly, out of the root.
        found = [
            path
            for one in patterns
            for path in root.glob(one if one[-1] == "*" else f"{one[:-1]}[{one[-1]}]")
        ]
        assert found, f"nothing matches {patterns}"
        for path in found:
            path.unlink()

    return plant


def several(*plants: Plant) -> Plant:
    """Plant more than one defect for a check that looks in more than one place."""

    def plant(root: Path) -> None:
        for each in plants:
            each(root)

    return plant


# Check → what is planted for it, and words of the refusal. Defects share one root: none hides another.
DEFECTS: dict[str, tuple[Plant, *tuple[str, ...]]] = {
    # base
    "test_base::test_unit_is_enabled": (
        gone(
            f"{UNITS}/*.wants/ssh.service",
            f"{UNITS}/*.wants/systemd-networkd.service",
            f"{UNITS}/*.wants/systemd-resolved.service",
            f"{UNITS}/*.wants/chrony.service",
            f"{UNITS}/*.wants/cloud-*.service",
        ),
        "is disabled",
    ),
    "test_base::test_unit_is_masked": (
        gone(f"{UNITS}/*.timer", f"{UNITS}/e2scrub_reap.service"),
        "is not masked",
    ),
    "test_base::test_kernel_is_the_one_that_is_booted": (
        change("boot/grub/grub.cfg", "linux /vmlinuz", "linux /boot/vmlinuz-5.10"),
        "/boot/vmlinuz-5.10",
    ),
    "test_base::test_root_is_found_by_one_partuuid": (
        change("etc/fstab", "PARTUUID=....", "PARTUUID=0000"),
        "/etc/fstab says 0000",
    ),
    "test_base::test_ssh_takes_keys_only": (
        write("etc/ssh/sshd_config.d/00-debug.conf", "PasswordAuthentication yes\n"),
        "passwordauthentication yes",
    ),
    "test_base::test_cloud_init_is_ours": (
        write("etc/cloud/cloud.cfg.d/99-build.cfg", "{}\n"),
        "99-build.cfg overrides",
    ),
    "test_base::test_time_comes_from_amazon_or_the_pool": (
        change("etc/chrony/chrony.conf", "^server 169.254.169.123", "server 10.0.0.1"),
        "does not ask Amazon Time Sync",
    ),
    "test_base::test_network_is_configured": (
        change("etc/systemd/network/20-wired.network", "DHCP=ipv4", "DHCP=no"),
        "no network",
    ),
    "test_base::test_locale_is_utf8": (write("etc/default/locale", "LANG=C\n"), "not C.UTF-8"),
    "test_base::test_packages_do_not_change_by_themselves": (
        write("etc/apt/apt.conf.d/20kiln", 'APT::Periodic::Enable "1";\n'),
        "by itself",
    ),
    "test_base::test_packages_are_whole": (change("usr/bin/ldd", "bash", "sh"), "/usr/bin/ldd"),
    # monai_label
    "test_monai_label::test_account_has_its_ids": (
        change("etc/passwd", "^monai-label:x:10001", "monai-label:x:4711"),
        "4711",
    ),
    "test_monai_label::test_service_is_enabled": (
        gone(f"{UNITS}/*.wants/monai-label.service"),
        "monai-label.service is disabled",
    ),
    "test_monai_label::test_service_is_not_root": (
        change(f"{UNITS}/monai-label.service", "^User=.*\n", ""),
        "runs as root",
    ),
    "test_monai_label::test_service_is_sandboxed": (
        change(f"{UNITS}/monai-label.service", f"^({'|'.join(SANDBOX)})=.*\n", ""),
        "is unset",
    ),
    "test_monai_label::test_service_keeps_the_gpu": (
        change(f"{UNITS}/monai-label.service", r"^\[Install\]", "PrivateDevices=yes\n\n[Install]"),
        "PrivateDevices",
    ),
    "test_monai_label::test_service_waits_for_a_slow_first_boot": (
        change(f"{UNITS}/monai-label.service", "^Type=notify", "Type=simple"),
        "before it answers",
    ),
    "test_monai_label::test_settings_are_offline": (
        change("etc/kiln/monai-label.env", '"sam2": "false"', '"sam2": "true"'),
        "SAM2 would be downloaded",
    ),
    "test_monai_label::test_settings_belong_to_root": (
        lambda root: (root / "etc/kiln/weights.json").chmod(0o664),
        "/etc/kiln/weights.json",
    ),
    "test_monai_label::test_environment_is_the_locked_one": (
        lambda root: (root / SITE / "certifi-0.dist-info").mkdir(),
        "certifi",
    ),
    "test_monai_label::test_every_file_of_the_environment_is_there": (
        gone(f"{SITE}/torch/nn/modules/linear.py"),
        "torch/nn/modules/linear.py",
    ),
    "test_monai_label::test_server_can_be_imported": (
        gone(f"{SITE}/torch/nn/modules/conv.py"),
        "venv broken",
    ),
    "test_monai_label::test_bytecode_is_there_and_unchecked": (
        gone(f"{SITE}/monai/__pycache__/__init__.*.pyc"),
        "monai/__init__.py",
    ),
    "test_monai_label::test_environment_belongs_to_root": (
        lambda root: os.chown(root / OPT / "kiln_serve.py", 10001, 10001),
        "kiln_serve.py",
    ),
    "test_monai_label::test_installers_are_gone": (write(f"{OPT}/venv/bin/uv", mode=0o755), "venv/bin/uv"),
    "test_monai_label::test_app_belongs_to_the_service": (
        lambda root: os.chown(root / APP / "main.py", 0, 0),
        "radiology/main.py",
    ),
    "test_monai_label::test_weights_are_there": (
        gone(f"{APP}/model/pretrained_*.pt"),
        "no weights for segmentation_spleen",
    ),
    "test_monai_label::test_font_cache_is_there": (gone(f"{HOME}/cache/matplotlib/*"), "font cache"),
    "test_monai_label::test_studies_are_shared_by_group": (
        lambda root: (root / HOME / "studies").chmod(0o755),
        "has mode 755",
    ),
    "test_monai_label::test_no_trial_start_left_anything": (
        write(f"{HOME}/studies/datastore_v2.json"),
        "datastore_v2.json",
    ),
    # seal
    "test_seal::test_no_ssh_host_key": (write("etc/ssh/ssh_host_rsa_key.pub"), "ssh_host_rsa_key"),
    "test_seal::test_no_authorized_keys": (write("srv/robot/.ssh/authorized_keys2"), "authorized_keys2"),
    "test_seal::test_machine_id_is_empty": (write("etc/machine-id", "0" * 32 + "\n"), "machine-id is filled"),
    "test_seal::test_no_random_seed": (write("var/lib/systemd/random-seed"), "random seed"),
    "test_seal::test_no_password_opens_an_account": (
        change("etc/shadow", r"^root:\*", "root:$y$j9T$x"),
        "root",
    ),
    "test_seal::test_only_root_has_uid_0": (
        change("etc/passwd", r"\Z", "toor:x:0:0::/root:/bin/sh\n"),
        "toor",
    ),
    "test_seal::test_no_credentials": (write("root/.netrc", mode=0o600), "/root/.netrc"),
    "test_seal::test_no_private_key": (
        write("etc/ssl/private/build.key", "-----BEGIN RSA " + "PRIVATE KEY-----\n", 0o600),
        "build.key",
    ),
    "test_seal::test_no_histories": (write("root/.bash_history"), ".bash_history"),
    "test_seal::test_logs_are_empty": (write("var/log/build.log"), "build.log"),
    "test_seal::test_no_journal": (write("var/log/journal/0/system.journal"), "system.journal"),
    "test_seal::test_tmp_is_empty": (write("var/tmp/tmpabc.json"), "tmpabc.json"),
    "test_seal::test_no_cloud_init_data": (write("var/lib/cloud/instances/i-1/user-data.txt"), "cloud"),
    "test_seal::test_apt_caches_are_gone": (write("var/lib/apt/lists/mirror.example_Packages"), "_Packages"),
    "test_seal::test_package_caches_are_gone": (write("root/.cache/pip/http/a"), "/root/.cache"),
    "test_seal::test_apt_sources_are_public": (
        write("etc/apt/sources.list.d/build.list", "deb http://mirror.build.example/debian bookworm main\n"),
        "mirror.build.example",
    ),
    "test_seal::test_apt_settings_are_public": (
        write("etc/apt/apt.conf.d/99build", 'Acquire::http::Proxy "http://proxy.build.example";\n'),
        "proxy.build.example",
    ),
    "test_seal::test_pip_and_uv_settings_are_public": (write("etc/pip.conf", "[global]\n"), "/etc/pip.conf"),
    "test_seal::test_environment_is_public": (
        several(
            write("etc/environment", "https_proxy=http://proxy.build.example\n"),
            write(
                "etc/systemd/system.conf.d/build.conf",
                "[Manager]\nDefaultEnvironment=NO_CACHE=1 HTTP_PROXY=http://manager.build.example\n",
            ),
            write(
                f"{UNITS}/chrony.service.d/build.conf",
                "[Service]\nEnvironment=https_proxy=http://unit.build.example\n",
            ),
        ),
        "proxy.build.example",
        "manager.build.example",
        "unit.build.example",
    ),
    "test_seal::test_certificates_are_debians": (
        write("usr/local/share/ca-certificates/build.crt"),
        "build.crt",
    ),
    "test_seal::test_release_is_complete": (change("etc/image-release", "^BASE=.*\n", ""), "VERSION"),
    "test_seal::test_nothing_is_writable_by_everybody": (
        write("etc/kiln/anybody", mode=0o666),
        "/etc/kiln/anybody",
    ),
    "test_seal::test_suid_files_are_debians": (
        write("usr/local/bin/shell", mode=0o4755),
        "/usr/local/bin/shell",
    ),
    "test_seal::test_no_name_of_the_build_machine": (write("etc/hostname", "build-17\n"), "build-17"),
    "test_seal::test_no_resolver_of_the_build_machine": (
        write("etc/resolv.conf", "nameserver 10.1.2.3\n"),
        "10.1.2.3",
    ),
    "test_seal::test_no_trace_of_the_builder": (write("packer-files/x"), "/packer-files"),
}


def sealed_root() -> Path:
    """The root of the proven image, or the one that KILN_ROOT names."""
    if named := os.environ.get("KILN_ROOT"):
        return Path(named)
    latest = paths.build_dir() / "monai-label/latest"
    assert latest.exists(), "there is no proven image: run make bake"
    return latest.resolve() / "root"


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Check]]:
    """Checks of a root with every defect, by their names without parameters."""
    folder = tmp_path_factory.mktemp("defects")
    root, place = sealed_root(), folder / "layer"
    plant = [sys.executable, "-m", "tests.defects.test_every_check", str(layer.merged(place))]
    subprocess.run(layer.command(root, place, plant), cwd=paths.ROOT, check=True)
    found = checks.run(
        "static", ROLES, folder / "junit.xml", folder / "log",
        env={"KILN_ROOT": str(layer.merged(place))}, wrap=layer.command(root, place, []),
    )  # fmt: skip
    named: dict[str, list[Check]] = {}
    for check in found:
        named.setdefault(check.id.removeprefix("static::").split("[")[0], []).append(check)
    return named


def test_every_check_has_a_defect(refusals: dict[str, list[Check]]) -> None:
    assert sorted(refusals) == sorted(DEFECTS)


@pytest.mark.parametrize("name", DEFECTS)
def test_check_sees_its_defect(refusals: dict[str, list[Check]], name: str) -> None:
    for check in refusals[name]:
        assert check.outcome == "failed", f"{check.id} passed"
        assert not check.message.startswith("could not run"), check.message
    said = " ".join(check.message for check in refusals[name])
    assert [words for words in DEFECTS[name][1:] if words not in said] == []


# An AMI brings fstab and grub.cfg of its own: GRUB's settings name each kernel again for recovery.
PARTUUID = "0a1b2c3d-0001-4000-8000-000000000001"
AMI: dict[str, Plant] = {
    "release": change("etc/image-release", "^BASE=.*", "BASE=ami-0123456789abcdef0"),
    "settings": write("etc/default/grub", "GRUB_TIMEOUT=0\n"),
    "fstab": write("etc/fstab", f"PARTUUID={PARTUUID} / ext4 rw,discard,errors=remount-ro 0 1\n"),
    "grub.cfg": write(
        "boot/grub/grub.cfg",
        "".join(
            f"menuentry 'Debian' {{\n\tlinux\t/vmlinuz root=PARTUUID={PARTUUID} ro {mode}\n}}\n"
            for mode in ("quiet", "single")
        ),
    ),
}
BOOT = ("test_kernel_is_the_one_that_is_booted", "test_root_is_found_by_one_partuuid")
AMI_DEFECTS: dict[str, tuple[Plant, *tuple[str, ...]]] = {
    # Nothing but the name of its base says that this root is no local one.
    "claim": (gone("etc/default/grub"), "an AMI's GRUB is missing"),
    "neither": (
        several(write("boot/grub/grub.cfg", "set timeout=0\n"), write("etc/fstab", "")),
        "names 0 kernels",
        "names no root partition",
    ),
    "another": (
        several(
            change("boot/grub/grub.cfg", "/vmlinuz(.* single)", r"/vmlinuz-5.10\1"),
            change("boot/grub/grub.cfg", "PARTUUID=....(.* single)", r"PARTUUID=0000\1"),
        ),
        "boots /vmlinuz-5.10",
        "0000",
    ),
}


@pytest.mark.parametrize("defect", [None, *AMI_DEFECTS])
def test_root_of_an_ami_boots_by_its_own_settings(tmp_path: Path, defect: str | None) -> None:
    root, place = sealed_root(), tmp_path / "layer"
    merged = layer.merged(place)
    plant = [
        sys.executable,
        "-m",
        "tests.defects.test_every_check",
        str(merged),
        "ami",
        *([defect] if defect else []),
    ]
    subprocess.run(layer.command(root, place, plant), cwd=paths.ROOT, check=True)
    found = checks.run(
        "static", ["base"], tmp_path / "junit.xml", tmp_path / "log", options=["-k", " or ".join(BOOT)],
        env={"KILN_ROOT": str(merged)}, wrap=layer.command(root, place, []),
    )  # fmt: skip
    assert sorted(check.id.rpartition("::")[2] for check in found) == sorted(BOOT)
    wanted = "failed" if defect else "passed"
    assert [check.message for check in found if check.outcome != wanted] == []
    said = " ".join(check.message for check in found)
    assert [words for words in (AMI_DEFECTS[defect][1:] if defect else ()) if words not in said] == []


if __name__ == "__main__":
    place, *rest = sys.argv[1:]
    planted = [defect for defect, *_ in DEFECTS.values()]
    if rest:
        planted = [*AMI.values(), *(AMI_DEFECTS[name][0] for name in rest[1:])]
    for each in planted:
        each(Path(place))
