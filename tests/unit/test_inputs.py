"""The input digest sees everything that it should, and nothing else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kiln import config, manifest, paths
from kiln.errors import KilnError, UsageError
from scripts import archive, driver, inputs


@pytest.fixture(scope="module")
def image() -> config.Image:
    return config.load(paths.ROOT / "kiln.toml").select("monai-label")


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: config.Image) -> config.Image:
    """The inputs as a tree of their own, to be changed."""
    import shutil

    for name in ("ansible", "packer", "requirements", "scripts"):
        shutil.copytree(paths.ROOT / name, tmp_path / name)
    shutil.copy(paths.ROOT / "ansible.cfg", tmp_path)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(inputs, "ROLES", tmp_path / "ansible/roles")
    return image.model_copy(
        update={
            "playbook": tmp_path / "ansible/playbooks/monai_label.yml",
            "template": tmp_path / "packer/monai-label",
        }
    )


CHANGED = (
    "ansible/playbooks/monai_label.yml",
    "ansible/roles/base/defaults/main.yml",
    "ansible/roles/monai_label/files/kiln_serve.py",
    "ansible/roles/seal/tasks/main.yml",
    "ansible/library/seal_tree.py",
    "ansible.cfg",
    "packer/monai-label/build.pkr.hcl",
    "requirements/monai-label.lock",
    "requirements/uv.lock",
    "scripts/disk.py",
)
IGNORED = ("ansible/roles/base/README.md", "requirements/dev.lock", "scripts/prove.py")


@pytest.mark.parametrize(("name", "counts"), [*((n, True) for n in CHANGED), *((n, False) for n in IGNORED)])
def test_a_changed_file_counts_or_does_not(copy: config.Image, name: str, counts: bool) -> None:
    roles = inputs.roles_of(copy.playbook)
    before = inputs.files(copy, roles)
    with (paths.ROOT / name).open("a") as stream:
        stream.write("\n# changed\n")
    assert (inputs.files(copy, roles) != before) is counts


def test_variables_are_those_of_the_playbooks_roles(image: config.Image) -> None:
    assert set(inputs.variables(image, ["base"])) == {
        "base_apt_update", "base_bootloader", "base_extra_packages", "base_root_partuuid",
        "base_root_fs_uuid",
    }  # fmt: skip
    assert inputs.variables(image, ["base"])["base_extra_packages"] == []
    assert "python3-venv" in inputs.variables(image, ["base", "monai_label"])["base_extra_packages"]
    # What base installs for the others, they do not look for once more.
    given = inputs.variables(image, inputs.roles_of(image.playbook))
    for role in inputs.roles_of(image.playbook):
        if role != "base" and inputs.packages(role):
            assert given[f"{role}_packages_installed"] is True
    assert "nginx" in given["base_extra_packages"]
    assert inputs.variables(image, ["monai_label"])["monai_label_models"] == ["segmentation_spleen"]


def test_server_stands_behind_health_gateway_and_settings(image: config.Image) -> None:
    roles = inputs.roles_of(image.playbook)
    # Units that others name come first; the seal takes out what any of them left.
    assert roles[-5:] == ["monai_label", "health", "gateway", "settings", "seal"]


def test_an_unknown_role_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    playbook = tmp_path / "x.yml"
    playbook.write_text("- hosts: all\n  roles: [bas]\n")
    with pytest.raises(UsageError, match="bas") as caught:
        inputs.roles_of(playbook)
    assert "base" in caught.value.hint


@pytest.mark.parametrize(
    "text", [b"roles: [base]", b"- roles: 3\n- x", b"[", b"3", b"\xff", b"- roles: [{tags: x}]"]
)
def test_no_playbook_is_told(tmp_path: Path, text: bytes) -> None:
    playbook = tmp_path / "x.yml"
    playbook.write_bytes(text)
    with pytest.raises(UsageError, match="no playbook"):
        inputs.roles_of(playbook)


def test_a_role_may_stand_in_each_way_that_ansible_takes(tmp_path: Path) -> None:
    playbook = tmp_path / "x.yml"
    playbook.write_text("- hosts: all\n  roles:\n    - base\n    - role: nvidia\n    - name: seal\n")
    assert inputs.roles_of(playbook) == ["base", "nvidia", "seal"]


@pytest.mark.parametrize("text", [b"base_packages: [", b"- 3", b"\xff", b"base_packages: 3"])
def test_defaults_that_are_no_table_are_told(copy: config.Image, text: bytes) -> None:
    (inputs.ROLES / "base/defaults/main.yml").write_bytes(text)
    with pytest.raises(UsageError, match=r"base/defaults/main\.yml cannot be read"):
        inputs.packages("base")


def test_a_commit_is_read_in_a_checkout_of_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    assert inputs._git() == manifest.Git(commit=None, dirty=False)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    commit = ["-c", "user.name=a", "-c", "user.email=a@example", "commit", "-q", "--allow-empty", "-m", "x"]
    subprocess.run(["git", "-C", tmp_path, *commit], check=True)
    # As root under sudo, or in a container: the owner is somebody else.
    for path in (tmp_path, tmp_path / ".git"):
        os.chown(path, 12345, 12345)
    monkeypatch.delenv("SUDO_UID", raising=False)
    said = inputs._git()
    assert len(said.commit or "") == 40
    assert not said.dirty
    (tmp_path / "kiln.toml").touch()
    assert inputs._git().dirty
    # A repository that git cannot read is not taken for a clean one.
    (tmp_path / ".git/HEAD").unlink()
    assert inputs._git() == manifest.Git(commit=None, dirty=True)


def _lock(**changed: str) -> archive.BaseLock:
    package = {"version": "1", "sha256": "a" * 64, "size": 1}
    body = {
        "releases": {"bookworm": "r"},
        "base": {"apt": package},
        "roles": {"sudo": {**package, **changed}},
    }
    return archive.BaseLock.model_validate(body)


def test_the_lock_counts_packages_and_not_the_day_of_their_signature() -> None:
    lock = _lock()
    assert lock.digest() == lock.model_copy(update={"releases": {"bookworm": "s"}}).digest()
    assert lock.digest() != _lock(version="2").digest()
    assert lock.digest() != _lock(sha256="b" * 64).digest()
    assert lock.base_digest() == _lock(version="2").base_digest()


def test_the_compiler_of_a_stage_counts_and_is_not_in_the_image() -> None:
    gcc = archive.Package(version="12", sha256="a" * 64, size=1)
    lock = _lock().model_copy(update={"stage": {"gcc-12": gcc}})
    assert lock.digest() != _lock().digest()
    assert lock.packages() == _lock().packages()


def test_the_drivers_compiler_is_resolved_for_the_kernel_of_the_image(tmp_path: Path) -> None:
    wanted = [inputs.packages("base"), inputs.packages(driver.ROLE)]
    lock = archive.resolve(("systemd", "python3"), wanted, tmp_path / "log", driver.SOURCES)
    release = archive.kernel(lock.roles)
    assert lock.stage[f"linux-headers-{release}"].version == lock.roles[f"linux-image-{release}"].version
    # Both from the security suite, where bookworm's own are older.
    assert lock.stage["nvidia-kernel-dkms"].version == lock.roles["libcuda1"].version
    assert {"gcc-12", "dkms", "make"} <= lock.stage.keys()
    assert not {"gcc-12", "dkms", "make"} & lock.packages().keys()


def test_a_package_that_is_not_in_the_archive_is_told(tmp_path: Path) -> None:
    with pytest.raises(KilnError, match="no-such-package"):
        archive.resolve((), [["no-such-package"]], tmp_path / "log")
