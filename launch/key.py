"""The key of an image in a region, and who may use it: its policy and its grants, before anything needs them.

Auto Scaling starts instances by a role of its own that has no permission for keys: where neither the policy
nor a grant names it, a group launches nothing and says ``Client.InternalError`` (EC2 Auto Scaling User Guide,
"Required AWS KMS key policy for use with encrypted volumes").
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from kiln.errors import KilnError
from launch import pages
from launch.cloud import Cloud
from launch.plan import Refusal
from launch.trouble import code, told

NEEDED = (
    "CreateGrant",
    "Decrypt",
    "DescribeKey",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncryptFrom",
    "ReEncryptTo",
)
"""What a principal does with the key of a volume that it makes (EBS User Guide, "Requirements for Amazon EBS
encryption")."""

_SERVICE_ROLE = "role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"

_GRANT = "kms:GrantIsForAWSResource"

_MET: dict[str, Callable[[str, str, str], bool]] = {
    _GRANT: lambda value, _account, _region: value.lower() == "true",
    "kms:CallerAccount": lambda value, account, _region: value == account,
    "kms:ViaService": lambda value, _account, region: value == f"ec2.{region}.amazonaws.com",
}
"""Conditions that we can judge: with what they hold for a volume that EC2 makes for an account."""


@dataclass(frozen=True)
class Key:
    """A key of KMS.

    Parameters
    ----------
    arn:
        Also where kiln.toml names an alias.
    region:
        Its region.
    customer:
        Whether a customer made it; AWS's own can be used by everybody in the account and nobody else.
    """

    arn: str
    region: str
    customer: bool

    @property
    def account(self) -> str:
        """The account that owns it."""
        return self.arn.split(":")[4]

    def role(self, account: str) -> str:
        """ARN of the role by which Auto Scaling starts instances in an account."""
        return f"arn:{self.arn.split(':')[1]}:iam::{account}:{_SERVICE_ROLE}"


def find(cloud: Cloud, region: str, name: str) -> tuple[Key | None, Refusal | None]:
    """Find a key, and tell whether it can encrypt a disk.

    Parameters
    ----------
    cloud, region:
        Where.
    name:
        Alias or ARN.

    Returns
    -------
    tuple of Key or None and Refusal or None
        One of the two.

    Raises
    ------
    KilnError
        It could not be found out.
    """
    with told(f"looking at {name} in {region}"):
        try:
            data = cloud.client("kms", region).describe_key(KeyId=name)["KeyMetadata"]
        except ClientError as error:
            if code(error) not in ("NotFoundException", "InvalidArnException"):
                raise
            what = f"{region} has no key {name}"
            return None, Refusal(
                "key-missing", what, "make it there, or name another by region: kms_key = { REGION = ARN }"
            )
    state, spec = data.get("KeyState"), data.get("KeySpec", data.get("CustomerMasterKeySpec"))
    if state != "Enabled":
        hint = f"enable it: aws kms enable-key --region {region} --key-id {data['KeyId']}"
        return None, Refusal("key-disabled", f"{name} in {region} is {state}, not Enabled", hint)
    # What it is for may be left out where it is the usual.
    usage = data.get("KeyUsage", "ENCRYPT_DECRYPT")
    if spec != "SYMMETRIC_DEFAULT" or usage != "ENCRYPT_DECRYPT":
        hint = "name a symmetric key for encryption: EBS takes no other"
        return None, Refusal("key-kind", f"{name} in {region} is a key of {spec} for {usage}", hint)
    return Key(data["Arn"], region, data.get("KeyManager") == "CUSTOMER"), None


def judge(cloud: Cloud, key: Key, accounts: Iterable[str]) -> list[Refusal]:
    """Tell which accounts could not launch what a key encrypts.

    Parameters
    ----------
    cloud:
        The account that publishes.
    key:
        A customer's key.
    accounts:
        Those that are to launch it, the publishing one included.

    Returns
    -------
    list of Refusal
        For an account that may not use the key, or whose Auto Scaling may not.

    Raises
    ------
    KilnError
        Policy or grants cannot be read: what could not be found out is no pass.
    """
    kms = cloud.client("kms", key.region)
    with told(
        f"reading policy and grants of {key.arn}",
        {"AccessDeniedException": "let the operator read them: kms:GetKeyPolicy, kms:ListGrants"},
    ):
        policy = json.loads(kms.get_key_policy(KeyId=key.arn, PolicyName="default")["Policy"])
        grants = list(pages.every(kms, "list_grants", "Grants", KeyId=key.arn))
    found = [_account(key, account, policy, grants) for account in accounts]
    return [refusal for refusal in found if refusal is not None]


def _account(key: Key, account: str, policy: dict[str, Any], grants: list[dict[str, Any]]) -> Refusal | None:
    if account != key.account:
        lacking = [each for each in NEEDED if not _by_policy(policy, None, account, key.region, each)]
        if lacking:
            return Refusal(
                "key-account",
                f"the policy of {key.arn} does not let account {account} do {', '.join(lacking)}",
                f"add a statement for arn:aws:iam::{account}:root to the key's policy, or take it out of"
                " share_with",
            )
    role = key.role(account)
    lacking = [
        each
        for each in NEEDED
        if not _by_policy(policy, role, account, key.region, each) and not _by_grant(grants, role, each)
    ]
    if not lacking:
        return None
    operations = " ".join(("Encrypt", "GenerateDataKey", *NEEDED))
    return Refusal(
        "key-auto-scaling",
        f"Auto Scaling of account {account} may not use {key.arn}: {', '.join(lacking)}",
        f"grant it: aws kms create-grant --region {key.region} --key-id {key.arn} --grantee-principal {role}"
        f" --operations {operations}",
    )


def _by_grant(grants: list[dict[str, Any]], role: str, operation: str) -> bool:
    # A grant with constraints fits one encryption context, which a volume does not have before it is there.
    return any(
        grant.get("GranteePrincipal") == role
        and operation in grant.get("Operations", [])
        and not grant.get("Constraints")
        for grant in grants
    )


def _by_policy(policy: dict[str, Any], role: str | None, account: str, region: str, operation: str) -> bool:
    """Judge one action of the role, or of the account as such where there is none."""
    about = [
        each
        for each in _list(policy.get("Statement", []))
        if _names(each, role, account) and _acts(each, f"kms:{operation}")
    ]
    # Of a condition that we do not know: a denial might hold, a permission might not.
    if any(each["Effect"] == "Deny" and _holds(each, account, region, unknown=True) for each in about):
        return False
    return any(each["Effect"] == "Allow" and _holds(each, account, region, unknown=False) for each in about)


def _names(statement: dict[str, Any], role: str | None, account: str) -> bool:
    named = statement.get("Principal", {})
    principals = ["*"] if named == "*" else _list(named.get("AWS", []) if isinstance(named, dict) else [])
    if "*" in principals:
        return True
    if role:
        # The account's root stands for what its own policies allow, and none allows a service's role a key.
        return role in principals
    of_account = [each for each in principals if each == account or f"::{account}:" in each]
    return any("/aws-service-role/" not in each for each in of_account)


def _acts(statement: dict[str, Any], action: str) -> bool:
    if "NotAction" in statement:
        return not any(_like(action, each) for each in _list(statement["NotAction"]))
    return any(_like(action, each) for each in _list(statement.get("Action", [])))


def _like(action: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(action.lower(), pattern.lower())


def _holds(statement: dict[str, Any], account: str, region: str, *, unknown: bool) -> bool:
    for operator, conditions in statement.get("Condition", {}).items():
        for name, values in conditions.items():
            met = _MET.get(name)
            if met is None or operator not in ("Bool", "StringEquals", "StringLike"):
                return unknown
            if not any(met(str(value), account, region) for value in _list(values)):
                return False
    return True


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def default(cloud: Cloud, region: str) -> str | None:
    """Return the key that EBS takes where none is named, None for AWS's own.

    Parameters
    ----------
    cloud, region:
        Where.

    Raises
    ------
    KilnError
        It could not be found out.
    """
    with told(f"asking for the default key of EBS in {region}"):
        name = str(cloud.client("ec2", region).get_ebs_default_kms_key_id()["KmsKeyId"])
    if not name:
        raise KilnError(f"EC2 names no default key of EBS in {region}", "set kms_key in kiln.toml")
    return None if name.endswith("alias/aws/ebs") else name
