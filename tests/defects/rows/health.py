"""Defects of health and drain: not started, too mighty, deaf, or stopped before the server has answered."""

from __future__ import annotations

from tests.defects.defect import Answer, Defect, change, gone, live, static
from tests.defects.rows.base import UP

UNITS = "etc/systemd/system"
DROP_IN = f"{UNITS}/monai-label.service.d/60-drain.conf"

STATIC = [
    Defect(
        "health that is not enabled",
        gone(f"{UNITS}/multi-user.target.wants/kiln-health.service"),
        static("test_health::test_service_is_enabled_without_rights"),
        ("kiln-health.service is not enabled",),
    ),
    Defect(
        "drain as root",
        change(f"{UNITS}/kiln-drain.service", "^User=.*\n", ""),
        static("test_health::test_service_is_enabled_without_rights"),
        ("kiln-drain.service has more rights",),
    ),
    Defect(
        "stop that cuts requests off",
        change(DROP_IN, "^ExecStop=.*\n", ""),
        static("test_health::test_stop_of_the_server_waits_for_its_work"),
        ("cuts requests off",),
    ),
    Defect(
        "stop that systemd ends early",
        change(DROP_IN, "^TimeoutStopSec=.*", "TimeoutStopSec=30s"),
        static("test_health::test_stop_of_the_server_waits_for_its_work"),
        ("ends the wait of 660 s after 30 s",),
    ),
    Defect(
        "stop that systemd does not listen to",
        change(DROP_IN, "^NotifyAccess=.*\n", ""),
        static("test_health::test_stop_of_the_server_waits_for_its_work"),
        ("cannot ask systemd for as long as settings say",),
    ),
    Defect(
        "nginx stopped before the server",
        change(DROP_IN, "^After=nginx.service ", "After="),
        static("test_health::test_stop_of_the_server_waits_for_its_work"),
        ("stopped before the server has answered: nginx.service",),
    ),
    Defect(
        "no way to call AWS",
        gone("usr/local/lib/kiln/kiln_aws.py"),
        static("test_health::test_aws_can_be_told"),
        ("cannot call AWS",),
    ),
    Defect(
        "calls to AWS of any kind",
        change("usr/local/lib/kiln/kiln_aws.py", r"raise WrongError\(\"NotAllowed\".*", "pass"),
        static("test_health::test_aws_can_be_told"),
        ("asks AWS for anything",),
    ),
    Defect(
        "another table than the server's",
        change("usr/local/lib/kiln/kiln_inflight.py", "^SLOTS = .*", "SLOTS = 8"),
        static("test_health::test_table_is_read_as_it_is_written"),
        ("kiln_inflight.py is not the server's",),
    ),
    Defect(
        "server without a folder for its table",
        change(f"{UNITS}/monai-label.service", "^RuntimeDirectory=.*\n", ""),
        static("test_health::test_table_is_read_as_it_is_written"),
        ("no folder for its table",),
    ),
]

SOUND = {
    "units": {"kiln-health.service": UP, "kiln-drain.service": UP},
    "healthz": [200, '{"status": "healthy"}'],
    "readyz": [200, '{"status": "ready"}'],
}

LIVE = [
    Answer(
        "health that does not run",
        ("units", "kiln-health.service"),
        {},
        live("test_health::test_health_and_drain_run"),
        ("kiln-health.service is missing",),
    ),
    Answer(
        "drain that does not run",
        ("units", "kiln-drain.service", "ActiveState"),
        "activating",
        live("test_health::test_health_and_drain_run"),
        ("kiln-drain.service is activating",),
    ),
    Answer(
        "instance that is unhealthy",
        ("healthz",),
        [503, '{"status": "unhealthy"}'],
        live("test_health::test_instance_is_healthy"),
        ("answers 503", "unhealthy"),
    ),
    Answer(
        "server that is never ready",
        ("readyz",),
        [503, '{"status": "not ready"}'],
        live("test_health::test_served_guest_is_ready"),
        ("answers 503", "not ready"),
    ),
]
