"""Make calls to AWS: ``{"region", "endpoint", "calls": [[service, operation, arguments], …]}`` on standard
input, a list of ``{"body", "code", "message"}`` on standard output, one for each call.

A process of its own, so that botocore's 40 MB are there only during a call. It is Debian's
python3-botocore: kept by Debian's security team, and there also when the server's own environment is
broken. Its credentials are the instance's, which it fetches itself; only what is listed here can be asked
for.
"""

from __future__ import annotations

import json
import sys
from typing import Any

ALLOWED = {
    "autoscaling": (
        "describe_auto_scaling_instances",
        "describe_lifecycle_hooks",
        "set_instance_health",
        "set_instance_protection",
        "record_lifecycle_action_heartbeat",
        "complete_lifecycle_action",
    ),
    "cloudwatch": ("put_metric_data",),
}
"""Service → operations. The instance's role needs exactly these."""


def answer(
    session: Any, asked: dict[str, Any], service: str, operation: str, arguments: Any
) -> dict[str, Any]:
    """Make one call; how it went."""
    import botocore.config
    import botocore.exceptions

    if operation not in ALLOWED.get(service, ()):
        return {"body": {}, "code": "NotAllowed", "message": f"{service}.{operation} is not in kiln_aws.py"}
    config = botocore.config.Config(
        connect_timeout=3, read_timeout=5, retries={"mode": "standard", "max_attempts": 3}
    )
    try:
        client = session.create_client(
            service, region_name=asked["region"], endpoint_url=asked["endpoint"] or None, config=config
        )
        said = getattr(client, operation)(**arguments)
    except botocore.exceptions.ClientError as error:
        found = error.response["Error"]
        return {"body": {}, "code": found["Code"] or "Unknown", "message": found.get("Message", "")}
    except botocore.exceptions.BotoCoreError as error:
        return {"body": {}, "code": type(error).__name__, "message": " ".join(str(error).split())}
    said.pop("ResponseMetadata", None)
    return {"body": said, "code": "", "message": ""}


def main() -> int:
    """Run as a program; return the exit code."""
    asked = json.load(sys.stdin)
    try:
        import botocore.session
    except ImportError as error:
        print(f"kiln_aws: {error}; install python3-botocore", file=sys.stderr)
        return 1
    session = botocore.session.get_session()
    found = [answer(session, asked, *call) for call in asked["calls"]]
    json.dump(found, sys.stdout, default=str)
    return 0


if __name__ == "__main__":
    sys.exit(main())
