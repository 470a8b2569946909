"""An answer against botocore's model: what a client would pass over in silence is told."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree

from botocore.parsers import ResponseParserError, create_parser

from tests.emulator import modelcheck
from tests.emulator.understand import Asked

ENVELOPE = {"ResponseMetadata", "requestId", "RequestId"}
"""Elements that every answer of a service may have and no model names."""

AS_IT_IS = re.compile(r"Platform=windows is not one of Windows$|has 0 members, not \d+ to \d+$")
"""Lines that are passed over: AWS's own answers are so, whatever its model says of them."""

STREAMS = {("s3", "GetObject"), ("ebs", "GetSnapshotBlock")}
"""Answers whose body is data."""


def wrong(asked: Asked, status: int, headers: dict[str, str], body: bytes) -> list[str]:
    """What is wrong with an answer, a line each.

    Parameters
    ----------
    asked:
        The request that it answers.
    status, headers, body:
        As they were sent.
    """
    model = asked.model
    if model is None or status == 0:
        return []
    if status >= 300:
        return _error(model, status, headers, body)
    shape = model.output_shape
    if shape is None or (asked.service, asked.operation) in STREAMS:
        return []
    try:
        parser = create_parser(model.service_model.resolved_protocol)
        lowered = {key.lower(): value for key, value in headers.items()}
        parsed = parser.parse({"headers": lowered, "body": body, "status_code": status}, shape)
    except ResponseParserError as error:
        return [f"{asked.operation}: it cannot be read: {' '.join(str(error).split())[:200]}"]
    parsed.pop("ResponseMetadata", None)
    lines = modelcheck.wrong(shape, parsed, asked.operation) + _unknown(model, body, asked.operation)
    return [line for line in lines if not AS_IT_IS.search(line)]


def _error(model: Any, status: int, headers: dict[str, str], body: bytes) -> list[str]:
    """An error needs a code that a client can read; HEAD has no body to have it in."""
    lowered = {key.lower(): value for key, value in headers.items()}
    if not body:
        return []
    parser = create_parser(model.service_model.resolved_protocol)
    try:
        parsed = parser.parse({"headers": lowered, "body": body, "status_code": status}, model.output_shape)
    except ResponseParserError:
        return [f"{model.name}: the error {status} cannot be read"]
    # Where there is no code botocore's parsers put the number of the status.
    code = str(parsed.get("Error", {}).get("Code", ""))
    return [f"{model.name}: the error {status} has no code"] if code in ("", str(status)) else []


def _unknown(model: Any, body: bytes, path: str) -> list[str]:
    """Members that the model does not have: a client drops them."""
    protocol = model.service_model.resolved_protocol
    shape = model.output_shape
    if not body.strip() or "payload" in shape.serialization:
        return []
    if protocol in ("json", "rest-json"):
        try:
            return unknown_json(shape, json.loads(body), path)
        except ValueError as error:
            return [f"{path}: it cannot be read: {error}"]
    if protocol not in ("query", "ec2"):
        return []
    root = ElementTree.fromstring(body.decode())
    wrapper = shape.serialization.get("resultWrapper")
    if wrapper:
        found = [each for each in root if _tag(each) == wrapper]
        return _unknown_xml(shape, found[0], path) if found else []
    return _unknown_xml(shape, root, path)


def unknown_json(shape: Any, value: Any, path: str) -> list[str]:
    """Members of a JSON document that its shape does not have, a line each."""
    kind = shape.type_name
    if value is None:
        return []
    if kind == "structure" and isinstance(value, dict):
        known = {member.serialization.get("name", name): member for name, member in shape.members.items()}
        lines = [f"{path}.{name} is unknown" for name in value if name not in known]
        inside = (unknown_json(known[n], each, f"{path}.{n}") for n, each in value.items() if n in known)
        return lines + [line for found in inside for line in found]
    if kind == "list" and isinstance(value, list):
        return [line for each in value for line in unknown_json(shape.member, each, f"{path}[]")]
    if kind == "map" and isinstance(value, dict):
        return [line for each in value.values() for line in unknown_json(shape.value, each, f"{path}{{}}")]
    return []


def _tag(node: Any) -> str:
    return str(node.tag).rpartition("}")[2]


def _unknown_xml(shape: Any, node: Any, path: str) -> list[str]:
    kind = shape.type_name
    if kind == "structure":
        known: dict[str, Any] = {}
        for name, member in shape.members.items():
            if member.type_name == "list" and member.serialization.get("flattened"):
                known[member.member.serialization.get("name", member.serialization.get("name", name))] = None
            else:
                known[member.serialization.get("name", name)] = member
        lines = []
        for child in node:
            tag = _tag(child)
            if tag not in known and tag not in ENVELOPE:
                lines.append(f"{path}.{tag} is unknown")
            elif known.get(tag) is not None:
                lines += _unknown_xml(known[tag], child, f"{path}.{tag}")
        return lines
    if kind == "list":
        return [line for child in node for line in _unknown_xml(shape.member, child, f"{path}[]")]
    return []
