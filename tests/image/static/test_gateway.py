"""The gateway: enabled, sandboxed, closed to all but nginx, and without anybody's secrets in the image."""

from __future__ import annotations

import json

import pytest
from testinfra.host import Host

from tests.image.asking import said, text
from tests.image.tree import Tree, shown, unit

UNITS = ("nginx.service", "kiln-auth.service", "kiln-auth.socket")
PROGRAMS = "/opt/kiln-gateway"

# Of kiln-drain, and of a stop of the server.
GATES = ("/run/kiln-drain/closed", "/run/monai-label/closed")

# What comes with an instance's settings or is made at its first start: in an image it would be everybody's.
SECRETS = ("/etc/kiln/auth/*", "/var/lib/kiln-auth/*", "/var/lib/kiln-gateway/uploads/*")

# Unit → what it must be kept from; the rest of a sandbox stands in the role's template.
SANDBOX = {
    "nginx.service": {
        "CapabilityBoundingSet": "CAP_CHOWN CAP_DAC_OVERRIDE CAP_NET_BIND_SERVICE CAP_SETGID CAP_SETUID",
        "NoNewPrivileges": "yes",
        "ProtectHome": "yes",
        "ProtectSystem": "strict",
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
        "SystemCallArchitectures": "native",
    },
    "kiln-auth.service": {
        "CapabilityBoundingSet": "",
        "NoNewPrivileges": "yes",
        "ProtectHome": "yes",
        "ProtectSystem": "strict",
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
        "StateDirectoryMode": "0700",
        "SystemCallArchitectures": "native",
        "UMask": "0077",
        "User": "kiln-auth",
    },
}


@pytest.mark.parametrize("name", UNITS)
def test_unit_is_enabled(tree: Tree, name: str) -> None:
    assert tree.matching(f"/etc/systemd/system/*.wants/{name}"), f"{name} is disabled"


SETTINGS = [f"{name} {setting}" for name, wanted in SANDBOX.items() for setting in wanted]


@pytest.mark.parametrize("setting", SETTINGS)
def test_gateway_is_sandboxed(host: Host, setting: str) -> None:
    name, key = setting.split()
    found = unit(text(host, f"/etc/systemd/system/{name}")).get(key, ["unset"])
    assert found == [SANDBOX[name][key]], f"{name} is not sandboxed: {key} is {shown(found)}"


def test_only_nginx_may_ask_kiln_auth(host: Host) -> None:
    found = unit(text(host, "/etc/systemd/system/kiln-auth.socket"))
    given = {key: found.get(key, ["unset"]) for key in ("SocketUser", "SocketGroup", "SocketMode")}
    assert given == {
        "SocketUser": ["root"], "SocketGroup": ["www-data"], "SocketMode": ["0660"],
    }, f"others than nginx may ask kiln-auth: {given}"  # fmt: skip


def test_every_request_for_the_server_is_judged(host: Host) -> None:
    judged = text(host, "/etc/nginx/judged.conf")
    assert "\nauth_request /kiln-check;" in judged, "nginx asks nobody before it passes a request on"
    others = text(host, "/etc/nginx/nginx.conf")
    passed = [line.strip() for line in others.splitlines() if "proxy_pass http://monai_label" in line]
    assert not passed, f"nginx passes requests on that nobody judged: {shown(passed)}"


def test_no_new_work_is_taken_while_the_server_is_to_end(host: Host) -> None:
    said_there = text(host, "/etc/nginx/nginx.conf")
    missing = [path for path in GATES if f"if (-f {path}) {{\n                return 503;" not in said_there]
    assert not missing, f"nginx takes new work in spite of {shown(missing)}"


@pytest.mark.sealed
def test_image_has_no_users_keys_or_uploads(tree: Tree) -> None:
    found = tree.matching(*SECRETS)
    assert not found, f"in the image, so everybody's: {shown(found)}"


def test_nobody_but_root_may_change_the_gateway(tree: Tree) -> None:
    mine = [PROGRAMS, *tree.below(PROGRAMS), "/etc/kiln/auth.json", "/etc/kiln/gateway.json"]
    mine += ["/etc/kiln/auth", "/etc/nginx/nginx.conf", "/etc/nginx/judged.conf"]
    found = [path for path in mine if tree[path].uid or tree[path].mode & 0o022]
    assert not found, f"others than root may write {shown(found)}"


def test_settings_are_understood(host: Host) -> None:
    said(host, f"python3 -I -S {PROGRAMS}/kiln_gateway.py /dev/null")
    given = json.loads(text(host, "/etc/kiln/auth.json"))
    assert isinstance(given, dict), "/etc/kiln/auth.json is no object"
    try_it = f"import sys; sys.path.insert(0, '{PROGRAMS}'); from pathlib import Path; "
    try_it += "sys.excepthook = lambda kind, error, trace: print(error.what); "
    try_it += "from kiln_auth.settings import load; load(Path('/etc/kiln/auth.json'))"
    said(host, "python3 -B -I -S -c %s", try_it)
