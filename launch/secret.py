"""A secret by its reference: kiln.toml says where it is, never what it is."""

from __future__ import annotations

import os

from kiln.errors import KilnError
from launch.cloud import Cloud
from launch.trouble import told

HINTS = {
    "ParameterNotFound": "make the parameter (SecureString), or correct secret in kiln.toml",
    "ResourceNotFoundException": "make the secret, or correct secret in kiln.toml",
    "DecryptionFailure": "let the operator's role use the key of the secret",
    "InvalidKeyId": "let the operator's role use the key of the parameter",
}


def read(cloud: Cloud, region: str, reference: str) -> str:
    """Return a secret.

    Parameters
    ----------
    cloud, region:
        Where SSM and Secrets Manager are asked.
    reference:
        ``env:NAME``, ``ssm:/NAME`` or ``secretsmanager:ID``.

    Raises
    ------
    KilnError
        It is not there, or empty.
    """
    where, _, name = reference.partition(":")
    with told(f"reading the secret {reference}", HINTS):
        if where == "env":
            value = os.environ.get(name, "")
        elif where == "ssm":
            found = cloud.client("ssm", region).get_parameter(Name=name, WithDecryption=True)
            value = str(found["Parameter"]["Value"])
        else:
            value = str(
                cloud.client("secretsmanager", region).get_secret_value(SecretId=name).get("SecretString", "")
            )
    if not value:
        raise KilnError(
            f"the secret {reference} is empty or not there",
            f"export {name}" if where == "env" else "give it a value, as text",
        )
    return value
