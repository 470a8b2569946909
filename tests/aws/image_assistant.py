"""A stand-in for AWS's Image Assistant: the same operations, answers and exit codes, as the guide has them.

Its catalogue is a file. An image that is to be made is asked of the emulator, since on AWS it is the
builder's agent that does so; without an emulator it is noted in the file. Run as a program; see
:class:`tests.aws.builder_local.Local` and ``molecule/appstream``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

KEYS = {
    "name": "Name",
    "absolute_app_path": "AbsoluteAppPath",
    "display_name": "DisplayName",
    "absolute_icon_path": "AbsoluteIconPath",
    "working_directory": "WorkingDirectory",
    "launch_parameters": "LaunchParameters",
    "absolute_manifest_path": "AbsoluteManifestPath",
}


def answer(status: int, message: str, **more: Any) -> NoReturn:
    print(json.dumps({"status": status, "message": message, **more}))
    raise SystemExit(status)


def operations() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    each = parser.add_subparsers(dest="operation", required=True)
    add = each.add_parser("add-application")
    for key in KEYS:
        add.add_argument(f"--{key.replace('_', '-')}", required=key in ("name", "absolute_app_path"))
    each.add_parser("remove-application").add_argument("--name", required=True)
    each.add_parser("list-applications")
    each.add_parser("update-default-profile").add_argument("--profile")
    create = each.add_parser("create-image")
    create.add_argument("--name", required=True)
    create.add_argument("--description")
    create.add_argument("--display-name")
    create.add_argument("--use-latest-agent-version", action=argparse.BooleanOptionalAction)
    create.add_argument("--enable-dynamic-app-catalog", action=argparse.BooleanOptionalAction)
    create.add_argument("--tags", nargs="*", default=[])
    create.add_argument("--dry-run", action="store_true")
    return parser


def main() -> NoReturn:
    given = operations().parse_args()
    file = Path(os.environ["ASSISTANT_STATE"])
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"applications": []}
    kept.setdefault("asked", []).append(sys.argv[1:])
    file.write_text(json.dumps(kept))
    if given.operation in kept.get("fails", {}):
        status, message = kept["fails"][given.operation]
        if status == "garbage":
            print(message)
            raise SystemExit(0)
        if status != "kill":
            answer(status, message)
        if not given.dry_run:
            create_image(given, kept)
            os.kill(os.getpid(), signal.SIGKILL)
    applications = kept["applications"]
    names = [each["Name"] for each in applications]
    if given.operation == "list-applications":
        answer(0, "Success", applications=applications)
    if given.operation == "add-application":
        if len(names) >= 50:
            answer(1, "Unable to add more than 50 apps to the catalog.")
        if given.name in names:
            answer(1, "Name is not unique")
        for argument in ("absolute_app_path", "absolute_icon_path"):
            if (named := getattr(given, argument)) and not Path(named).is_file():
                answer(1, f"File not found ({argument.replace('_', '-')})")
        if given.working_directory and not Path(given.working_directory).is_dir():
            answer(1, "Directory not found (working-directory)")
        if given.absolute_manifest_path and not Path(given.absolute_manifest_path).is_file():
            answer(1, f"Optimization-manifest not found: {given.absolute_manifest_path}")
        if given.launch_parameters is not None:
            given.launch_parameters = unquoted(given.launch_parameters)
        found = {key: getattr(given, argument) for argument, key in KEYS.items() if getattr(given, argument)}
        applications.append(found)
    elif given.operation == "remove-application":
        if given.name not in names:
            answer(1, "App not found")
        kept["applications"] = [each for each in applications if each["Name"] != given.name]
    elif given.operation == "create-image":
        status = create_image(given, kept)
        answer(status["status"], status["message"])
    file.write_text(json.dumps(kept))
    answer(0, "Success")


def unquoted(text: str) -> str:
    """A command line comes in quotes of its own."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        answer(255, "launch-parameters is not quoted")
    return re.sub(r'(\\+)("|$)', lambda found: "\\" * (len(found[1]) // 2) + found[2], text[1:-1])


def create_image(given: argparse.Namespace, kept: dict[str, Any]) -> dict[str, Any]:
    if len(given.tags) % 2:
        answer(1, "Invalid value (tags)")
    tags = dict(zip(given.tags[::2], given.tags[1::2], strict=True))
    if "ASSISTANT_EMULATOR" not in os.environ:
        images = kept.setdefault("images", [])
        if given.name in [each["name"] for each in images]:
            return {"status": 1, "message": "An image with the given name already exists"}
        if not given.dry_run:
            images.append({"name": given.name, "tags": tags})
            Path(os.environ["ASSISTANT_STATE"]).write_text(json.dumps(kept))
        return {"status": 0, "message": "Success"}
    asked = {
        "account": os.environ["ASSISTANT_ACCOUNT"],
        "region": os.environ["ASSISTANT_REGION"],
        "builder": os.environ["ASSISTANT_BUILDER"],
        "image": given.name,
        "applications": kept["applications"],
        "description": given.description,
        "display_name": given.display_name,
        "tags": tags,
        "use_latest_agent_version": bool(given.use_latest_agent_version),
        "dry_run": given.dry_run,
        "fails": kept.get("image_fails", ""),
    }
    address = f"{os.environ['ASSISTANT_EMULATOR']}/kiln-api/do/image_assistant"
    request = urllib.request.Request(address, data=json.dumps(asked).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=60) as said:
        found: dict[str, Any] = json.load(said)
    return found


if __name__ == "__main__":
    main()
