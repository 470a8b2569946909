"""The seed disk is read back and holds what cloud-init needs, and nothing that breaks out of it."""

from __future__ import annotations

import json
import subprocess
import tomllib
from pathlib import Path

import bcrypt
import pytest
import yaml
from kiln_auth.users import parse

from kiln.errors import KilnError
from scripts import seed


def read_back(iso: Path, folder: Path) -> dict[str, str]:
    command = ["xorriso", "-osirrox", "on", "-indev", str(iso), "-extract", "/", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_the_seed_is_what_cloud_init_looks_for(tmp_path: Path) -> None:
    key = seed.keypair(tmp_path)
    public = key.with_suffix(".pub").read_text()
    iso = seed.make(tmp_path, "kiln-1", public)

    with iso.open("rb") as stream:
        stream.seek(32768 + 40)  # the volume's label in the primary descriptor of an ISO 9660
        assert stream.read(32).strip() == b"CIDATA"
    files = read_back(iso, tmp_path / "back")
    assert set(files) == {"meta-data", "user-data"}
    assert yaml.safe_load(files["meta-data"]) == {"instance-id": "kiln-1", "local-hostname": "kiln"}
    assert files["user-data"].startswith("#cloud-config\n")
    user_data = yaml.safe_load(files["user-data"])
    (user,) = user_data["users"]
    assert (user["name"], user["sudo"]) == ("kiln", "ALL=(ALL) NOPASSWD:ALL")
    assert user["ssh_authorized_keys"] == [public.strip()]
    assert user["lock_passwd"] is True and user_data["ssh_pwauth"] is False


def test_the_private_key_stays_here(tmp_path: Path) -> None:
    key = seed.keypair(tmp_path)
    iso = seed.make(tmp_path, "kiln-1", key.with_suffix(".pub").read_text())
    assert key.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE KEY" in key.read_bytes() and b"PRIVATE KEY" not in iso.read_bytes()


def test_nothing_breaks_out_of_a_value(tmp_path: Path) -> None:
    odd = 'x"\nruncmd: [reboot]\n#'
    files = read_back(seed.make(tmp_path, odd, "ssh-ed25519 AAAA " + odd), tmp_path / "back")
    assert json.loads(files["meta-data"])["instance-id"] == odd
    assert set(yaml.safe_load(files["user-data"])) == {"users", "ssh_pwauth"}


def test_a_log_in_comes_as_an_instance_gets_it(tmp_path: Path) -> None:
    login = seed.Login.made()
    files = read_back(seed.make(tmp_path, "kiln-1", "ssh-ed25519 AAAA", login), tmp_path / "back")
    assert login.password not in "".join(files.values())
    users, settings = yaml.safe_load(files["user-data"])["write_files"]
    # The settings name the users, and refuse a file that others can read.
    assert (users["path"], users["permissions"]) == ("/etc/kiln/auth/users", "0600")
    assert tomllib.loads(settings["content"]) == {"schema": 1, "auth": {"users_file": users["path"]}}
    (entry,) = parse(users["content"], Path(users["path"])).values()
    assert entry.user.roles == ("admin",)
    assert bcrypt.checkpw(login.password.encode(), entry.hash.encode())
    assert login.password not in repr(login)


def test_every_guest_has_another_key(tmp_path: Path) -> None:
    keys = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        keys.add(seed.keypair(tmp_path / name).with_suffix(".pub").read_text())
    assert len(keys) == 2
    assert seed.Login.made().password != seed.Login.made().password


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(KilnError, match="making an ssh key failed"):
        seed.keypair(tmp_path / "nothing")
