"""The module of the role seal on folders: each kind of leftover is planted and gone afterwards."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from kiln import paths


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, paths.ROOT / "ansible/library" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


seal_tree = load("seal_tree")

_VARS = yaml.safe_load((paths.ROOT / "ansible/roles/seal/vars/main.yml").read_text())
TABLE = {
    "remove": _VARS["__seal_remove"],
    "empty": _VARS["__seal_empty"],
    "truncate": _VARS["__seal_truncate"],
    "write": {"/etc/image-release": "IMAGE=x\n", "/etc/hosts": _VARS["__seal_write"]["/etc/hosts"]},
    "lock": ["root"],
}

LEFTOVERS = [
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_rsa_key.pub",
    "root/.ssh/authorized_keys",
    "home/ann/.ssh/authorized_keys",
    "home/ann/.ssh/authorized_keys2",
    "srv/robot/.ssh/authorized_keys",
    "home/ann/.bash_history",
    "root/.python_history",
    "root/.netrc",
    "root/.aws/credentials",
    "home/ann/.docker/config.json",
    "home/ann/.gnupg/private-keys-v1.d/a.key",
    "home/ann/.git-credentials",
    "home/ann/.pypirc",
    "home/ann/.ssh/id_ed25519",
    "home/ann/.ssh/known_hosts",
    "etc/apt/auth.conf.d/build.conf",
    "etc/sudoers.d/90-cloud-init-users",
    "etc/pip.conf",
    "etc/uv/uv.toml",
    "var/lib/amazon/ssm/Vault/Store/RegistrationKey",
    "var/log/dpkg.log.1",
    "var/log/audit/audit.log.3",
    "var/log/apt/history.log.1.gz",
    "home/ann/.config/pip/pip.conf",
    "root/.config/uv/uv.toml",
    "root/.cache/pip/http/a",
    "root/.ansible/tmp/x",
    "var/lib/cloud/instances/i-1/user-data.txt",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "var/cache/apt/pkgcache.bin",
    "var/cache/apt/archives/a.deb",
    "var/lib/apt/lists/mirror.example_Packages",
    "etc/apt/apt.conf.d/99proxy",
    "etc/shadow-",
    "etc/resolv.conf",
    "etc/hostname",
    "tmp/.hidden/x",
    "var/tmp/tmpabc.json",
    "run/lock/x",
    "var/log/journal/0123/system.journal",
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small root, with what must survive."""
    root = tmp_path / "root"
    files = {
        "etc/passwd": "root:x:0:0::/root:/bin/bash\nann:x:1000:1000::/home/ann:/bin/bash\n"
        "robot:x:999:999::/srv/robot:/bin/sh\n"
        "nobody:x:65534:65534::/nonexistent:/bin/false\nsync:x:4:65534::/:/bin/sync\n",
        "etc/shadow": "root:$y$hash:1::::::\nann::1::::::\nrobot:!:1::::::\n",
        "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "etc/hosts": "10.0.0.1 build\n",
        "etc/ssh/sshd_config": "x\n",
        "var/log/dpkg.log": "x\n",
        "var/log/apt/history.log": "x\n",
        "home/ann/data.txt": "x\n",
        "root/.bashrc": "x\n",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ("tmp", "var/tmp", "run"):
        (root / name).mkdir(exist_ok=True, parents=True)
    return root


@pytest.mark.parametrize("leftover", LEFTOVERS)
def test_leftover_is_removed(tree: Path, leftover: str) -> None:
    path = tree / leftover
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("secret\n")
    changed = seal_tree.seal(tree, TABLE)
    assert not path.exists()
    assert any(f"/{leftover}".startswith(one) for one in changed)


def test_contents_go_and_files_stay(tree: Path) -> None:
    seal_tree.seal(tree, TABLE)
    for name in ("etc/machine-id", "var/log/dpkg.log", "var/log/apt/history.log"):
        assert (tree / name).read_text() == ""
    for name in ("etc/ssh/sshd_config", "home/ann/data.txt", "root/.bashrc"):
        assert (tree / name).read_text() == "x\n"
    assert (tree / "tmp").is_dir() and (tree / "run").is_dir()
    assert "build" not in (tree / "etc/hosts").read_text()
    assert (tree / "etc/image-release").read_text() == "IMAGE=x\n"


def test_no_account_opens_without_a_key(tree: Path) -> None:
    seal_tree.seal(tree, TABLE)
    assert (tree / "etc/shadow").read_text() == "root:*:1::::::\nann:*:1::::::\nrobot:!:1::::::\n"


def test_second_run_changes_nothing(tree: Path) -> None:
    assert seal_tree.seal(tree, TABLE) != []
    assert seal_tree.seal(tree, TABLE) == []


def test_link_out_of_the_tree_is_not_followed(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "log").write_text("keep\n")
    os.symlink(outside / "log", tree / "var/log/elsewhere.log")
    (tree / "var/lib/cloud").mkdir(parents=True)
    os.symlink(outside, tree / "var/lib/cloud/data")
    (tree / "etc/hosts").unlink()
    os.symlink(outside / "log", tree / "etc/hosts")
    seal_tree.seal(tree, TABLE)
    assert (outside / "log").read_text() == "keep\n"
    assert not (tree / "etc/hosts").is_symlink()


@pytest.mark.parametrize("name", ["etc/resolv.conf", "var/lib/dbus/machine-id", "root/.netrc"])
def test_dangling_link_is_removed(tree: Path, name: str) -> None:
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).symlink_to("/nowhere")
    seal_tree.seal(tree, TABLE)
    assert not (tree / name).is_symlink()


def test_home_that_leads_out_of_the_tree_is_left_alone(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / ".ssh").mkdir(parents=True)
    (outside / ".ssh/authorized_keys").write_text("keep\n")
    (tree / "etc/passwd").write_text("eve:x:1:1::/home/eve:/bin/sh\n")
    os.symlink(outside, tree / "home/eve")
    seal_tree.seal(tree, TABLE)
    assert (outside / ".ssh/authorized_keys").exists()


MOUNTS = "overlay / overlay rw 0 0\nfs-1.efs:/ /var/lib/monai-label nfs4 rw 0 0\n"


def test_a_host_that_is_no_build_is_refused(tmp_path: Path) -> None:
    foreign = _VARS["__seal_foreign"]
    assert "this host is no image under build" in seal_tree.objection(tmp_path / "kiln-build", "", foreign)
    assert "/var/lib/monai-label is mounted" in seal_tree.objection(tmp_path, MOUNTS, foreign)
    assert seal_tree.objection(tmp_path, MOUNTS.splitlines()[0], foreign) == ""
