"""Who may use a key: its policy and its grants, which moto keeps and never asks.

A principal of an account may use the account's keys where the policy allows the account's root, as far as its
own permissions go; a service-linked role has no permissions of its own for keys, so it needs to be named, or
a grant. Principals of another account need the policy of the key, or a grant.
"""

from __future__ import annotations

import fnmatch
import json
from typing import Any

from moto.kms.models import KmsBackend, kms_backends

from tests.emulator import policies
from tests.emulator.control import action

AUTO_SCALING = (
    "arn:aws:iam::{account}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"
)

TO_ATTACH = ("kms:CreateGrant", "kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext")
"""What EC2 does with a key for whoever starts an instance from an encrypted volume."""

TO_READ = ("kms:CreateGrant", "kms:Decrypt")
TO_WRITE = ("kms:CreateGrant", "kms:GenerateDataKeyWithoutPlaintext")
"""What is done with the keys of the source and of the copy."""


def service_role(account: str) -> str:
    """The role by which Auto Scaling starts instances in an account."""
    return AUTO_SCALING.format(account=account)


def root(account: str) -> str:
    """The principal that stands for an account."""
    return f"arn:aws:iam::{account}:root"


def find(account: str, region: str, key: str) -> Any:
    """A key by id, ARN or alias, as an account names it in a region.

    Returns
    -------
    Any
        Moto's key; None where there is none.
    """
    if key.startswith("arn:"):
        parts = key.split(":", 5)
        region, account, key = parts[3], parts[4], parts[5]
        key = key.removeprefix("key/")
    backend = kms_backends[account][region]
    if key.startswith("alias/"):
        key = backend.get_key_id_from_alias(key) or ""
    return backend.keys.get(key)


def may_use(principal: str, key: Any, actions: tuple[str, ...]) -> bool:
    """Whether a principal may do all of these with a key.

    Parameters
    ----------
    principal:
        ARN; an account's root stands for whoever has all permissions in it.
    key:
        Moto's key, or None for one that does not exist.
    actions:
        As ``kms:Decrypt``.
    """
    if key is None or key.key_state != "Enabled":
        return False
    account = principal.split(":")[4]
    if key.key_manager == "AWS":
        return bool(account == key.account_id)
    return all(_allowed(principal, account, key, each) for each in actions)


def _allowed(principal: str, account: str, key: Any, wanted: str) -> bool:
    statements = json.loads(key.policy).get("Statement", [])
    context = {
        "kms:viaservice": (f"ec2.{key.region}.amazonaws.com",),
        "kms:calleraccount": (account,),
        "kms:grantisforawsresource": ("true",),
        "aws:principalaccount": (account,),
        "aws:principalarn": (principal,),
    }
    need = policies.Need(wanted, key.arn, context)
    about = (each for each in statements if _about(each, principal, account, wanted))
    fitting = [each for each in about if policies.conditions_hold(each, need)]
    if any(each["Effect"] == "Deny" for each in fitting):
        return False
    if fitting:
        return True
    operation = wanted.removeprefix("kms:")
    return any(
        grant.grantee_principal == principal and operation in grant.operations
        for grant in key.grants.values()
    )


def _about(statement: dict[str, Any], principal: str, account: str, wanted: str) -> bool:
    actions = _texts(statement.get("Action", []))
    if not any(fnmatch.fnmatchcase(wanted.lower(), pattern.lower()) for pattern in actions):
        return False
    named = statement.get("Principal", {})
    principals = ["*"] if named == "*" else _texts(named.get("AWS", []))
    if principal in principals or "*" in principals:
        return True
    linked = ":role/aws-service-role/" in principal
    return not linked and (root(account) in principals or account in principals)


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(each) for each in value]


def encryption(backend: Any, encrypted: bool | None, key: str | None) -> tuple[bool, str | None]:
    """Whether something new is encrypted, and by which key, after the account's default.

    Parameters
    ----------
    backend:
        Of EC2.
    encrypted, key:
        As the request has them.

    Returns
    -------
    tuple
        Encrypted, and the key's ARN; where no such key exists, the text of the request.
    """
    wanted = bool(encrypted) or bool(key) or bool(backend.ebs_encryption_by_default)
    if not wanted:
        return False, None
    name = key or backend.default_kms_key_id or "alias/aws/ebs"
    found = find(backend.account_id, backend.region_name, name)
    return True, found.arn if found else name


def managed(arn: str | None) -> bool:
    """Whether a key is one of AWS's own, with which nothing can be shared."""
    key = find("", "", arn) if arn and arn.startswith("arn:") else None
    return bool(key and key.key_manager == "AWS")


@action
def set_key_policy(account: str, region: str, key: str, policy: dict[str, Any]) -> None:
    """Give a key another policy, whoever is allowed to."""
    find(account, region, key).policy = json.dumps(policy)


BY_ARN = ("disable_key", "enable_key", "cancel_key_deletion", "schedule_key_deletion")
"""Of moto's backend: they take only an id, and their responses pass on what the request has."""


def install() -> None:
    """Let a key behind ``alias/aws/...`` be AWS's own, as its description then says; take ARNs everywhere."""
    for name in BY_ARN:
        _by_arn(name)
    original = KmsBackend.create_alias

    def create_alias(self: Any, target_key_id: str, alias_name: str) -> Any:
        alias = original(self, target_key_id, alias_name)
        if alias_name.startswith("alias/aws/"):
            self.keys[self.get_key_id(target_key_id)].key_manager = "AWS"
        return alias

    KmsBackend.create_alias = create_alias  # type: ignore[method-assign]


def _by_arn(name: str) -> None:
    original = getattr(KmsBackend, name)

    def act(self: Any, key_id: str, *more: Any, **given: Any) -> Any:
        return original(self, self.any_id_to_key_id(key_id), *more, **given)

    setattr(KmsBackend, name, act)
