"""Defects of logs, their rotation and the agents that collect them."""

from __future__ import annotations

from tests.defects.defect import Answer, Defect, change, gone, link, live, several, static, write

WANTS = "etc/systemd/system/multi-user.target.wants"
CONFIGURATION = "etc/kiln/cloudwatch-agent.json"
# What dpkg knows of an installed package.
STATUS = """
Package: amazon-ssm-agent
Status: install ok installed
Maintainer: Nobody <nobody@example.org>
Architecture: all
Version: 0
Description: stands in for the agent
"""

STATIC = [
    Defect(
        "agents enabled and not installed",
        several(
            link(f"{WANTS}/amazon-ssm-agent.service", "/lib/systemd/system/amazon-ssm-agent.service"),
            link(
                f"{WANTS}/amazon-cloudwatch-agent.service",
                "/lib/systemd/system/amazon-cloudwatch-agent.service",
            ),
        ),
        static("test_agents::test_agent_is_absent_or_enabled"),
        (
            "amazon-ssm-agent is enabled and not installed",
            "amazon-cloudwatch-agent is enabled and not installed",
        ),
    ),
    Defect(
        "agent in an image that is not for AWS",
        several(
            change("var/lib/dpkg/status", r"\Z", STATUS),
            write("var/lib/dpkg/info/amazon-ssm-agent.list", "/.\n"),
            write("var/lib/dpkg/info/amazon-ssm-agent.md5sums", ""),
            link(f"{WANTS}/amazon-ssm-agent.service", "/lib/systemd/system/amazon-ssm-agent.service"),
        ),
        static("test_agents::test_agent_is_absent_or_enabled"),
        ("amazon-ssm-agent is in an image that is not for AWS",),
    ),
    Defect(
        "identity of an SSM agent",
        write("var/lib/amazon/ssm/Vault/Store/RegistrationKey"),
        static("test_agents::test_no_agent_is_registered"),
        ("RegistrationKey",),
    ),
    Defect(
        "unknown metric for CloudWatch",
        change(CONFIGURATION, '"power_draw"', '"power_drawn"'),
        static("test_agents::test_cloudwatch_configuration_is_valid"),
        ("power_drawn",),
    ),
    Defect(
        "collects what is not there",
        change(CONFIGURATION, "monai-label.service", "monailabel.service"),
        static("test_agents::test_collected_units_are_there"),
        ("monailabel.service",),
    ),
    Defect(
        "collected log that nothing rotates",
        change(CONFIGURATION, '"/var/log/cloud-init.log"', '"/var/log/another.log"'),
        static("test_agents::test_logs_are_rotated"),
        ("/var/log/another.log",),
    ),
    Defect(
        "log that nothing rotates",
        write("var/log/build.log", ""),
        static("test_agents::test_logs_are_rotated"),
        ("/var/log/build.log",),
    ),
    Defect(
        "no rotation",
        gone("etc/systemd/system/timers.target.wants/logrotate.timer"),
        static("test_agents::test_logs_are_rotated"),
        ("logrotate.timer is disabled",),
    ),
    Defect(
        "the server's log without an end",
        change("etc/kiln/monai-label-logging.json", '"maxBytes": [0-9]+, ', ""),
        static("test_agents::test_server_rotates_its_log"),
        ("app.log",),
    ),
    Defect(
        "the server's log without settings",
        gone("etc/kiln/monai-label-logging.json"),
        static("test_agents::test_server_rotates_its_log"),
        ("nothing says how the server's log is rotated",),
    ),
]

LIVE = [
    Answer(
        "logs that are not rotated",
        ("rotated",),
        [],
        live("test_agents::test_logs_of_the_boot_were_rotated"),
        ("rotated: nothing",),
    ),
    Answer(
        "logrotate refuses",
        ("rotation",),
        "error: bad",
        live("test_agents::test_logs_of_the_boot_were_rotated"),
        ("error: bad",),
    ),
    Answer(
        "rotation without a timer",
        ("rotation_timer",),
        "inactive",
        live("test_agents::test_rotation_has_a_timer"),
        ("inactive",),
    ),
]

SOUND = {
    "rotation": "",
    "rotated": ["/var/log/cloud-init-output.log.1.gz", "/var/log/cloud-init.log.1.gz"],
    "rotation_timer": "active",
}
