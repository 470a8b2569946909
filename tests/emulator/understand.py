"""What a request asks: service, operation, region, parameters, read from its HTTP form by the models."""

from __future__ import annotations

import functools
import io
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import botocore.session
from botocore.exceptions import UnknownServiceError
from botocore.model import OperationNotFoundError
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request, determine_request_protocol
from moto.core.routing import get_service_router

SIGNED_AS: dict[str, tuple[str, ...]] = {
    "elasticloadbalancing": ("elbv2", "elb"),
    "monitoring": ("cloudwatch",),
    "elasticfilesystem": ("efs",),
    "servicequotas": ("service-quotas",),
}
"""Name in a signature → services as boto3 names them, where the two differ; several are told apart by their
version of the interface."""

CREDENTIAL = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/aws4_request")
BODIES_APART = {("ebs", "PutSnapshotBlock"), ("s3", "PutObject"), ("s3", "UploadPart")}
"""Operations whose body is data, not parameters: a word stands for it."""


@dataclass
class Asked:
    """A request, as far as it was understood.

    Parameters
    ----------
    service, operation, region:
        As boto3 names them; empty where the request does not say.
    params:
        As a client of boto3 would have given them.
    access_key:
        Of the signature.
    body:
        Bytes of the request.
    fields:
        Names of a form's fields, up to their first dot.
    problems:
        Why it could not be read.
    """

    service: str = ""
    operation: str = ""
    region: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    access_key: str = ""
    body: bytes = b""
    fields: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    @property
    def model(self) -> Any:
        """Botocore's model of the operation; None where it has none."""
        service = model(self.service)
        try:
            return service.operation_model(self.operation) if service and self.operation else None
        except OperationNotFoundError:
            return None


@functools.cache
def model(service: str) -> Any:
    """Botocore's model of a service; None where it knows no such service."""
    try:
        return botocore.session.get_session().get_service_model(service) if service else None
    except UnknownServiceError:
        return None


def _service(signed: str, version: str) -> str:
    names = SIGNED_AS.get(signed, (signed,))
    fitting = (name for name in names if model(name) and model(name).api_version == version)
    return next(fitting, names[0]) if len(names) > 1 else names[0]


def read(environ: dict[str, Any]) -> Asked:
    """Read a request of WSGI; its body can be read again afterwards.

    Parameters
    ----------
    environ:
        As WSGI gives it; ``wsgi.input`` is replaced.

    Returns
    -------
    Asked
        What it asks; a request that is not AWS's has no service.
    """
    if environ.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked":
        body = environ["wsgi.input"].read()
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING")
    else:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    asked = Asked(body=body)
    found = CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
    if not found:
        query = parse_qs(environ.get("QUERY_STRING", "")).get("X-Amz-Credential", [""])[0]
        found = CREDENTIAL.search(f"Credential={query}")
    if not found:
        asked.problems.append("the request is not signed")
        return asked
    asked.access_key, asked.region, signed = found.groups()
    form = environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded")
    fields = parse_qs(body.decode(), keep_blank_values=True) if form and signed != "s3" else {}
    asked.fields = {name.partition(".")[0] for name in fields}
    asked.service = _service(signed, fields.get("Version", [""])[0])
    if model(asked.service) is None:
        asked.problems.append(f"botocore knows no service {asked.service}")
        return asked
    try:
        if not _block(asked, environ):
            _parse(asked, environ, fields)
    except Exception as error:  # whatever a parser stumbles over makes the request invalid
        asked.problems.append(f"{type(error).__name__}: {error}")
    return asked


BLOCK = re.compile(r"/snapshots/([^/]+)/blocks/(\d+)")

BLOCK_HEADERS: dict[str, tuple[str, type]] = {
    "HTTP_X_AMZ_DATA_LENGTH": ("DataLength", int),
    "HTTP_X_AMZ_PROGRESS": ("Progress", int),
    "HTTP_X_AMZ_CHECKSUM": ("Checksum", str),
    "HTTP_X_AMZ_CHECKSUM_ALGORITHM": ("ChecksumAlgorithm", str),
}
"""Header of PutSnapshotBlock → parameter and its type."""


def _block(asked: Asked, environ: dict[str, Any]) -> bool:
    """Read PutSnapshotBlock, which comes thousands of times for one disk, without the way of all others."""
    found = BLOCK.fullmatch(environ["PATH_INFO"])
    if asked.service != "ebs" or environ["REQUEST_METHOD"] != "PUT" or not found:
        return False
    asked.operation = "PutSnapshotBlock"
    asked.params = {"SnapshotId": found[1], "BlockIndex": int(found[2]), "BlockData": b"data"}
    for header, (name, kind) in BLOCK_HEADERS.items():
        if header in environ:
            asked.params[name] = kind(environ[header])
    return True


def _parse(asked: Asked, environ: dict[str, Any], fields: dict[str, list[str]]) -> None:
    request = Request({**environ, "wsgi.input": io.BytesIO(asked.body)}, populate_request=False)
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    url_params: dict[str, Any] = {}
    if target:
        asked.operation = target.rpartition(".")[2]
    elif fields:
        asked.operation = fields.get("Action", [""])[0]
    else:
        operation, url_params = get_service_router(asked.service).match(request)
        asked.operation = operation.name
    from moto.core.utils import get_service_model

    operation = get_service_model(asked.service).operation_model(asked.operation)
    apart = (asked.service, asked.operation) in BODIES_APART
    parser = PROTOCOL_PARSERS[determine_request_protocol(operation.service_model, request.content_type)]
    asked.params = parser(operation, map_type=dict).parse(
        {
            "method": request.method,
            "values": request.values,
            "headers": request.headers,
            "body": b"data" if apart else asked.body,
            "url_path": request.path,
            "url_params": url_params,
        }
    )
