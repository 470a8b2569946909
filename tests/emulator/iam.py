"""Whether an assumed role may do what it asks: enforced for every key of a session, before moto acts.

Whoever calls with another key has all permissions, as an account's administrator. The secret of a key is not
looked at: a signature says only who calls.
"""

from __future__ import annotations

import json
from typing import Any

from moto.iam.models import iam_backends

from tests.emulator import control, credentials, faults, needs, policies
from tests.emulator.control import Answer
from tests.emulator.understand import Asked

ALWAYS = {("sts", "GetCallerIdentity")}
"""What nobody needs a permission for."""

CODES = {"ec2": ("UnauthorizedOperation", 403), "s3": ("AccessDenied", 403)}


def documents(role: Any) -> list[dict[str, Any]]:
    """Policies of an assumed role, inline and attached; none where there is no such role."""
    account, name = role.role_arn.split(":")[4], role.role_arn.rpartition("/")[2]
    found = next((each for each in iam_backends[account]["aws"].roles.values() if each.name == name), None)
    if found is None:
        return []
    managed = (
        version.document
        for policy in found.managed_policies.values()
        for version in policy.versions
        if version.version_id == policy.default_version_id
    )
    texts = [*found.policies.values(), *managed]
    return [text if isinstance(text, dict) else json.loads(text) for text in texts]


def gate(asked: Asked, environ: dict[str, Any]) -> Answer | None:
    """Refuse what the caller's role does not allow."""
    role = credentials.role_of(asked.access_key)
    if role is None or (asked.service, asked.operation) in ALWAYS:
        return None
    account = credentials.account_of(asked.access_key)
    given = documents(role)
    for need in needs.of(asked, account):
        if not policies.allowed(need, given):
            return denied(asked, role.arn, need)
    return None


def denied(asked: Asked, who: str, need: policies.Need) -> Answer:
    """The refusal, in the form of its service."""
    json_ = asked.model is not None and asked.model.service_model.resolved_protocol in ("json", "rest-json")
    default = ("AccessDeniedException", 400) if json_ else ("AccessDenied", 403)
    code, status = CODES.get(asked.service, default)
    message = f"User: {who} is not authorized to perform: {need.action} on resource: {need.resource}"
    if asked.service == "ec2":
        message = f"You are not authorized to perform this operation. {message}"
    return faults.answer(asked, status, code, message)


def install() -> None:
    """Judge last of all: credentials and region come first."""
    control.GATES.append(gate)
