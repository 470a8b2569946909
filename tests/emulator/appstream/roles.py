"""Roles that AppStream is to take on: whether they are there, trust it, and may do what they are for."""

from __future__ import annotations

import fnmatch
import json
from typing import Any

from moto.iam.models import iam_backends

from tests.emulator.appstream.models import AppStreamBackend, refuse

SERVICE = "appstream.amazonaws.com"
TO_IMPORT = ("ec2:ModifyImageAttribute", "ec2:DescribeImages")
"""What the role of an import must allow (botocore's model, CreateImportedImageRequest.IamRoleArn)."""


def check(backend: AppStreamBackend, arn: str | None, needs: tuple[str, ...] = ()) -> None:
    """Refuse a role that AppStream cannot use.

    Parameters
    ----------
    arn:
        None is no role, and no matter.
    needs:
        Actions that it must allow.
    """
    if arn is None:
        return
    role = find(backend, arn)
    if role is None:
        raise refuse("InvalidRole", f"The role {arn} does not exist.")
    if not trusts(role):
        raise refuse("InvalidRole", f"The role {arn} cannot be assumed by {SERVICE}.")
    missing = [action for action in needs if not allows(backend, role, action)]
    if missing:
        raise refuse("InvalidRole", f"The role {arn} does not allow {', '.join(missing)}.")


def find(backend: AppStreamBackend, arn: str) -> Any:
    """Moto's role; None where there is none."""
    roles = iam_backends[backend.account_id][backend.partition].roles.values()
    return next((role for role in roles if role.arn == arn), None)


def trusts(role: Any) -> bool:
    """Whether AppStream may take a role on."""
    for statement in _statements(role.assume_role_policy_document):
        named = statement.get("Principal", {})
        services = _texts(named.get("Service", [])) if isinstance(named, dict) else []
        if statement.get("Effect") == "Allow" and SERVICE in services:
            return True
    return False


def allows(backend: AppStreamBackend, role: Any, action: str) -> bool:
    """Whether a role's policies name an action; conditions and resources are not looked at."""
    documents = [*role.policies.values(), *(each.document for each in role.managed_policies.values())]
    return any(
        fnmatch.fnmatchcase(action.lower(), pattern.lower())
        for document in documents
        for statement in _statements(document)
        if statement.get("Effect") == "Allow"
        for pattern in _texts(statement.get("Action", []))
    )


def _statements(document: Any) -> list[dict[str, Any]]:
    read = json.loads(document) if isinstance(document, str) else document
    found = read.get("Statement", [])
    return [found] if isinstance(found, dict) else list(found)


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(each) for each in value]
