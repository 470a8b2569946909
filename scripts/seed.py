"""What a guest is told at its first boot: a NoCloud seed with one user and a key for this guest alone."""

from __future__ import annotations

import json
from pathlib import Path

from scripts import proc

USER = "kiln"
LABEL = "CIDATA"
"""Label by which cloud-init knows the disk."""


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


def user_data(public_key: str) -> str:
    """Return what makes the user at a first boot, whatever brings it there.

    Parameters
    ----------
    public_key:
        Key that may log in as ``kiln``, who may do anything by sudo.

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
    # JSON is YAML, and no value can break out of it.
    return "#cloud-config\n" + json.dumps({"users": [user], "ssh_pwauth": False})


def make(folder: Path, instance_id: str, public_key: str) -> Path:
    """Make the seed disk.

    Parameters
    ----------
    folder:
        Where ``seed.iso`` and the files in it are written.
    instance_id:
        Another one than the image has seen makes cloud-init treat the boot as a first one.
    public_key:
        Key that may log in as ``kiln``, who may do anything by sudo.

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
        "user-data": user_data(public_key),
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
