"""What a guest is told at its first boot: a NoCloud seed with one user and a key for this guest alone.

An image with the gateway is told who may log in to its server as well, by a document of settings, as an
instance is by its user data.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt

from scripts import proc

USER = "kiln"
LABEL = "CIDATA"
"""Label by which cloud-init knows the disk."""

USERS = "/etc/kiln/auth/users"
SETTINGS = "/etc/kiln/settings.toml"

COST = 10
"""Of bcrypt, the least that kiln-auth takes: the password is 128 random bits, and the processor emulated."""


@dataclass(frozen=True)
class Login:
    """Who may log in to a guest's server.

    Parameters
    ----------
    name, password:
        As a client sends them.
    """

    name: str
    password: str = field(repr=False)

    @classmethod
    def made(cls) -> Login:
        """One for one guest alone."""
        return cls(USER, secrets.token_urlsafe(16))

    def files(self) -> list[dict[str, str]]:
        """Entries of cloud-init's ``write_files``: the users first, since the document names them."""
        hashed = bcrypt.hashpw(self.password.encode(), bcrypt.gensalt(COST)).decode()
        texts = {
            USERS: f"{self.name}:{hashed}:admin\n",
            SETTINGS: f'schema = 1\n\n[auth]\nusers_file = "{USERS}"\n',
        }
        return [{"path": path, "permissions": "0600", "content": text} for path, text in texts.items()]


def keypair(folder: Path) -> Path:
    """Make an ssh key for one guest.

    Parameters
    ----------
    folder:
        Where ``key`` and ``key.pub`` are written.

    Returns
    -------
    Path
        The private key.

    Raises
    ------
    KilnError
        ssh-keygen is missing or failed.
    """
    key = folder / "key"
    command: list[str | Path] = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "kiln", "-f", key]
    proc.output(command, what="making an ssh key")
    return key


def user_data(public_key: str, login: Login | None = None) -> str:
    """Return what makes the user at a first boot, whatever brings it there.

    Parameters
    ----------
    public_key:
        Key that may log in as ``kiln``, who may do anything by sudo.
    login:
        User of the server behind the gateway, where the image has one.

    Returns
    -------
    str
        For cloud-init.
    """
    user = {
        "name": USER,
        "shell": "/bin/bash",
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "lock_passwd": True,
        "ssh_authorized_keys": [public_key.strip()],
    }
    told = {"users": [user], "ssh_pwauth": False, **({"write_files": login.files()} if login else {})}
    # JSON is YAML, and no value can break out of it.
    return "#cloud-config\n" + json.dumps(told)


def make(folder: Path, instance_id: str, public_key: str, login: Login | None = None) -> Path:
    """Make the seed disk.

    Parameters
    ----------
    folder:
        Where ``seed.iso`` and the files in it are written.
    instance_id:
        Another one than the image has seen makes cloud-init treat the boot as a first one.
    public_key:
        Key that may log in as ``kiln``, who may do anything by sudo.
    login:
        Who may log in to its server; None writes no settings, for an image that could not read them.

    Returns
    -------
    Path
        The ISO image.

    Raises
    ------
    KilnError
        xorriso is missing or failed.
    """
    documents = {
        "meta-data": json.dumps({"instance-id": instance_id, "local-hostname": "kiln"}),
        "user-data": user_data(public_key, login),
    }
    files = []
    for name, text in documents.items():
        path = folder / name
        path.write_text(text + "\n", encoding="utf-8")
        files.append(path)
    iso = folder / "seed.iso"
    command: list[str | Path] = [
        "xorriso",
        "-as",
        "mkisofs",
        "-quiet",
        "-J",
        "-r",
        "-V",
        LABEL,
        "-o",
        iso,
        *files,
    ]
    proc.output(command, what="making the seed disk")
    return iso
