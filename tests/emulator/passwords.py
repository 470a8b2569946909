"""GetPasswordData as EC2 answers it: nothing at first, then the password for the holder of the key pair.

Moto answers with letters at random, which no key decrypts.
"""

from __future__ import annotations

import base64
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from tests.emulator import control, ec2

PASSWORD = "Gener4ted-by-EC2Launch"
"""Of every Windows instance."""

ASKED: set[str] = set()
"""Instances whose password was asked for before: Windows takes minutes to make it."""

control.RESETS.append(ASKED.clear)


def get_password_data(self: Any) -> dict[str, Any]:
    """GetPasswordData; EC2 starts no Windows with a key that is not RSA, since nothing could be encrypted."""
    name = self._get_param("InstanceId")
    instance = self.ec2_backend.get_instance(name)
    pair = self.ec2_backend.key_pairs.get(instance.key_name)
    data = ""
    if instance.platform == "windows" and pair is not None and name in ASKED:
        key = load_ssh_public_key(pair.material_public)
        if not isinstance(key, rsa.RSAPublicKey):
            raise ec2.refuse("UnsupportedOperation", "ED25519 keys are not supported with Windows instances")
        data = base64.b64encode(key.encrypt(PASSWORD.encode(), padding.PKCS1v15())).decode()
    ASKED.add(name)
    return {"InstanceId": name, "PasswordData": data}


def install() -> None:
    """Put it in place of moto's."""
    ec2.extend(get_password_data)
