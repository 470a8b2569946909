"""Defects of the gateway."""

from __future__ import annotations

from tests.defects.defect import Answer, Defect, change, gone, live, mode, several, static, write
from tests.defects.rows.base import UP
from tests.image.static.test_gateway import SANDBOX

UNITS = "etc/systemd/system"

STATIC = [
    Defect(
        "gateway disabled",
        gone(
            f"{UNITS}/*.wants/nginx.service",
            f"{UNITS}/*.wants/kiln-auth.service",
            f"{UNITS}/*.wants/kiln-auth.socket",
        ),
        static("test_gateway::test_unit_is_enabled"),
        ("nginx.service is disabled", "kiln-auth.service is disabled", "kiln-auth.socket is disabled"),
    ),
    Defect(
        "gateway without a sandbox",
        several(
            *(
                change(f"{UNITS}/{name}", f"^({'|'.join(wanted)})=.*\n", "")
                for name, wanted in SANDBOX.items()
            )
        ),
        static("test_gateway::test_gateway_is_sandboxed"),
        ("nginx.service is not sandboxed", "kiln-auth.service is not sandboxed", "is unset"),
    ),
    Defect(
        "anybody may ask who gets in",
        change(f"{UNITS}/kiln-auth.socket", "^SocketMode=.*", "SocketMode=0666"),
        static("test_gateway::test_only_nginx_may_ask_kiln_auth"),
        ("others than nginx", "0666"),
    ),
    Defect(
        "nobody is asked who gets in",
        change("etc/nginx/judged.conf", "^auth_request .*\n", ""),
        static("test_gateway::test_every_request_for_the_server_is_judged"),
        ("asks nobody",),
    ),
    Defect(
        "drain that nginx does not see",
        change("etc/nginx/nginx.conf", "if \\(-f /run/kiln-drain/closed\\)", "if (-f /run/kiln-drain/other)"),
        static("test_gateway::test_no_new_work_is_taken_while_the_server_is_to_end"),
        ("takes new work in spite of /run/kiln-drain/closed",),
    ),
    Defect(
        "signing key in the image",
        several(
            write("etc/kiln/auth/users", "ann:x:admin\n"),
            write("var/lib/kiln-auth/signing.key", "x\n", 0o600),
        ),
        static("test_gateway::test_image_has_no_users_keys_or_uploads"),
        ("/etc/kiln/auth/users", "/var/lib/kiln-auth/signing.key"),
    ),
    Defect(
        "gateway that others may change",
        several(mode("opt/kiln-gateway/kiln_auth/policy.py", 0o666), mode("etc/kiln/auth.json", 0o664)),
        static("test_gateway::test_nobody_but_root_may_change_the_gateway"),
        ("/opt/kiln-gateway/kiln_auth/policy.py", "/etc/kiln/auth.json"),
    ),
    Defect(
        "gateway with settings that it does not know",
        write("etc/kiln/auth.json", '{"users": "everybody"}\n'),
        static("test_gateway::test_settings_are_understood"),
        ("users is no setting",),
    ),
]

SOUND = {
    "units": {"nginx.service": UP, "kiln-auth.service": UP},
    "anonymous": [401, '{"detail": "log in first: POST /auth/token"}'],
}

LIVE = [
    Answer(
        "nginx that does not run",
        ("units", "nginx.service", "ActiveState"),
        "failed",
        live("test_gateway::test_gateway_runs"),
        ("nginx.service is failed",),
    ),
    Answer(
        "log-in that does not run",
        ("units", "kiln-auth.service"),
        {},
        live("test_gateway::test_gateway_runs"),
        ("kiln-auth.service is missing",),
    ),
    Answer(
        "server that lets anybody in",
        ("anonymous",),
        [200, "{}"],
        live("test_gateway::test_nobody_gets_in_without_a_log_in"),
        ("answers 200",),
    ),
    Answer(
        "gateway that nobody reaches",
        ("anonymous",),
        [0, "Connection refused"],
        live("test_gateway::test_nobody_gets_in_without_a_log_in"),
        ("answers 0: Connection refused",),
    ),
]
