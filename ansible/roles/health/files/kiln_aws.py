"""Make calls to AWS: ``{"region", "endpoint", "metadata", "calls": [[service, operation, arguments], …]}`` on
standard input, a list of ``{"body", "code", "message"}`` on standard output, one for each call.

A process of its own, so that a name server or an endpoint that hangs holds up nobody. It speaks the query
protocol of the seven operations that are listed here, signs by Signature Version 4, and takes the instance's
own credentials from the metadata service. botocore would do the same with 30 MB of memory more for each
child, when all that stands beside the server may have 100; the tests hold each request, signature, address
and answer here against botocore's.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import os
import socket
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

ALLOWED: dict[str, dict[str, tuple[str, ...]]] = {
    "autoscaling": {
        "describe_auto_scaling_instances": ("AutoScalingInstances",),
        "describe_lifecycle_hooks": ("LifecycleHooks",),
        "set_instance_health": (),
        "set_instance_protection": (),
        "record_lifecycle_action_heartbeat": (),
        "complete_lifecycle_action": (),
    },
    "cloudwatch": {"put_metric_data": ()},
}
"""Service → operation → lists of its answer. The instance's role needs exactly these."""

SERVICES = {
    "autoscaling": ("autoscaling", "autoscaling", "2011-01-01"),
    "cloudwatch": ("monitoring", "monitoring", "2010-08-01"),
}
"""Service → first word of its endpoint, its name in a signature, version of its interface."""

DOMAINS = {
    "cn-": "amazonaws.com.cn",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "us-isof-": "csp.hci.ic.gov",
    "eu-isoe-": "cloud.adc-e.uk",
    "eusc-": "amazonaws.eu",
}
"""Beginning of a region → the domain of its partition; every other one is in amazonaws.com."""

BOOLEANS = ("ProtectedFromScaleIn",)
NUMBERS = ("HeartbeatTimeout", "GlobalTimeout")
"""Of an answer, which is text."""

TRIES = 3
PAUSE = 0.5
"""Seconds before the second try, and twice as long before the third, as botocore's standard mode has it."""

TIMEOUT = 5.0
"""Seconds without a word from AWS."""

AGAIN = {"Throttling", "ThrottlingException", "RequestLimitExceeded", "RequestThrottled", "InternalFailure"}
"""Codes of refusals that may go well in a moment, besides every status of 500 and above."""

Keys = tuple[str, str, str]
"""Name, secret and session token of some credentials."""


class WrongError(Exception):
    """A call that cannot be made, or was refused.

    Parameters
    ----------
    code, message:
        AWS's, or one of ours.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield an argument as the query protocol writes it: ``Dimensions.member.1.Name=…``."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for number, inner in enumerate(value, 1):
            yield from flat(inner, f"{name}.member.{number}")
    elif isinstance(value, bool):
        yield name, "true" if value else "false"
    else:
        yield name, str(value)


def form(service: str, operation: str, arguments: Any) -> bytes:
    """Return the body of a request."""
    action = "".join(word.capitalize() for word in operation.split("_"))
    pairs = [("Action", action), ("Version", SERVICES[service][2]), *flat(arguments, "")]
    return urllib.parse.urlencode(pairs).encode()


def signed(
    service: str, region: str, url: str, body: bytes, keys: Keys, now: datetime.datetime
) -> dict[str, str]:
    """Return the headers of a POST, signed by Signature Version 4.

    Parameters
    ----------
    service, region:
        Of the call.
    url:
        Its endpoint, without a query.
    body:
        What is sent.
    keys:
        The credentials.
    now:
        The time, UTC.
    """
    name, secret, token = keys
    parts = urllib.parse.urlsplit(url)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {
        "content-type": "application/x-www-form-urlencoded; charset=utf-8",
        "host": parts.netloc,
        "x-amz-date": stamp,
        **({"x-amz-security-token": token} if token else {}),
    }
    listed = ";".join(headers)
    canonical = "\n".join(
        ["POST", parts.path or "/", "", *(f"{key}:{value}" for key, value in headers.items()), "", listed,
         hashlib.sha256(body).hexdigest()]
    )  # fmt: skip
    scope = f"{day}/{region}/{SERVICES[service][1]}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret}".encode()
    for word in scope.split("/"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = f"Credential={name}/{scope}, SignedHeaders={listed}, Signature={signature}"
    return {**headers, "authorization": f"AWS4-HMAC-SHA256 {credential}"}


def _plain(element: ElementTree.Element) -> Any:
    """Value of an answer's element: a table, or text."""
    name = element.tag.rpartition("}")[2]
    inner = list(element)
    if inner:
        return {part.tag.rpartition("}")[2]: _plain(part) for part in inner}
    text = element.text or ""
    if name in BOOLEANS:
        return text == "true"
    return int(text) if name in NUMBERS else text


def body_of(said: bytes, lists: tuple[str, ...]) -> dict[str, Any]:
    """Return what an answer says under some names, each of which is a list.

    Raises
    ------
    WrongError
        It is no answer of AWS's.
    """
    root = _parsed(said)
    found: dict[str, Any] = {}
    for name in lists:
        there = next((part for part in root.iter() if part.tag.rpartition("}")[2] == name), None)
        found[name] = [] if there is None else [_plain(member) for member in there]
    return found


def _parsed(said: bytes) -> ElementTree.Element:
    try:
        if b"<!DOCTYPE" in said:
            raise ElementTree.ParseError("it has a document type")
        return ElementTree.fromstring(said)
    except ElementTree.ParseError as error:
        raise WrongError("NoAnswer", f"what came is no answer of AWS's: {error}") from error


def refusal(status: int, said: bytes) -> WrongError:
    """Return the error of an answer."""
    try:
        found = {part.tag.rpartition("}")[2]: (part.text or "").strip() for part in _parsed(said).iter()}
    except WrongError:
        found = {}
    return WrongError(found.get("Code") or str(status), found.get("Message", f"it answered {status}"))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """AWS redirects no such call: whoever does would get one that is signed."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def post(url: str, headers: dict[str, str], body: bytes) -> bytes:
    """Send a request once.

    Raises
    ------
    WrongError
        It was refused.
    OSError
        No answer.
    """
    # Proxies are the environment's: HTTPS_PROXY and NO_PROXY.
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(
            urllib.request.Request(url, body, headers, method="POST"), timeout=TIMEOUT
        ) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            raise refusal(error.code, error.read()) from None


def credentials(asked: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Keys:
    """Return the environment's credentials, else those of the instance's role.

    Raises
    ------
    WrongError
        There are none.
    """
    if environment.get("AWS_ACCESS_KEY_ID"):
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        name, secret, token = (environment.get(each, "") for each in names)
        return name, secret, token
    from kiln_instance.imds import Metadata, NobodyError

    folder = "meta-data/iam/security-credentials/"
    try:
        metadata = Metadata(asked["metadata"], 2.0)
        role = (metadata.get(folder) or "").split("\n")[0].strip()
        said = json.loads(metadata.get(folder + role) or "{}") if role else {}
        return said["AccessKeyId"], said["SecretAccessKey"], said["Token"]
    except (NobodyError, ValueError, KeyError) as error:
        words = str(error) if isinstance(error, NobodyError) else "the instance has no role"
        raise WrongError("NoCredentials", f"{words}: give it an instance profile") from None


def endpoint(service: str, region: str) -> str:
    """Address of a service."""
    domain = next((domain for start, domain in DOMAINS.items() if region.startswith(start)), "amazonaws.com")
    return f"https://{SERVICES[service][0]}.{region}.{domain}/"


def call(
    asked: Mapping[str, Any],
    service: str,
    operation: str,
    arguments: Any,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Make one call, and once more where that may help.

    Returns
    -------
    dict
        What AWS said.

    Raises
    ------
    WrongError
        It was refused, or AWS cannot be reached.
    """
    if operation not in ALLOWED.get(service, {}):
        raise WrongError("NotAllowed", f"{service}.{operation} is not in kiln_aws.py")
    keys, body = credentials(asked), form(service, operation, arguments)
    url = asked["endpoint"] or endpoint(service, asked["region"])
    failed = WrongError("NoAnswer", "it was not tried")
    for number in range(TRIES):
        if number:
            sleep(PAUSE * 2 ** (number - 1))
        headers = signed(service, asked["region"], url, body, keys, datetime.datetime.now(datetime.UTC))
        try:
            return body_of(post(url, headers, body), ALLOWED[service][operation])
        except WrongError as error:
            failed = error
            if not (error.code in AGAIN or (error.code.isdigit() and int(error.code) >= 500)):
                break
        except (OSError, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            failed = WrongError("NoConnection", f"{urllib.parse.urlsplit(url).netloc}: {reason}")
    raise failed


def main() -> int:
    """Run as a program; return the exit code."""
    asked = json.load(sys.stdin)
    socket.setdefaulttimeout(TIMEOUT)
    found = []
    for service, operation, arguments in asked["calls"]:
        try:
            found.append({"body": call(asked, service, operation, arguments), "code": "", "message": ""})
        except WrongError as error:
            found.append({"body": {}, "code": error.code, "message": " ".join(error.message.split())})
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    # Not by Python's own path, which the service's environment could change.
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - without pathlib
    sys.exit(main())
