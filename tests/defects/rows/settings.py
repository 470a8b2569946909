"""Defects of settings from user data: what is wrong is taken up, what is right is not, or nobody waits."""

from __future__ import annotations

from tests.defects.defect import Answer, Defect, change, gone, live, mode, several, static, write
from tests.defects.rows.base import UP

UNITS = "etc/systemd/system"
UNIT = f"{UNITS}/kiln-settings.service"
PROGRAM = "usr/local/lib/kiln/kiln_settings"
SCHEMA = "usr/share/kiln/settings/1.json"
REFUSED = static("test_settings::test_wrong_document_is_refused_by_name")

STATIC = [
    Defect(
        "setting of the workers that never reaches the server",
        change(f"{PROGRAM}/render.py", r"\.upper\(\)\}\"\] = str", '.lower()}"] = str'),
        static("test_settings::test_good_document_is_taken_up"),
        ("MONAI_LABEL_INFER_CONCURRENCY unset",),
    ),
    Defect(
        "server that does not start without a document",
        change(f"{PROGRAM}/__main__.py", 'if state == "refused"', 'if state != "applied"'),
        static(
            "test_settings::test_without_a_document_nothing_changes",
        ),
        ("no document stops the server",),
    ),
    Defect(
        "unknown keys passed over",
        change(f"{PROGRAM}/schema.py", "^( *)yield Problem\\(prefix \\+ written, .*", "\\g<1>pass"),
        REFUSED,
        ("a document (unknown) is taken up",),
    ),
    Defect(
        "whole numbers that may be true",
        change(
            f"{PROGRAM}/schema.py",
            r'if type\(value\) is not KINDS\[schema\["type"\]\]',
            'if not isinstance(value, KINDS[schema["type"]])',
        ),
        REFUSED,
        ("a document (type) is taken up",),
    ),
    Defect(
        "studies anywhere",
        change(f"{PROGRAM}/document.py", "^    _studies,\n", ""),
        REFUSED,
        ("a document (outside) is taken up",),
    ),
    Defect(
        "schema that is not asked for",
        change(f"{PROGRAM}/schema.py", r"or number not in read", "or number < 1"),
        REFUSED,
        ("refused (newer) without a reason",),
    ),
    Defect(
        "text taken for a document",
        change(
            f"{PROGRAM}/document.py", r"^( *)return tomllib.loads\(written\)", "\\g<1>return {'schema': 1}"
        ),
        # Whatever is written, it is the same.
        REFUSED | static("test_settings::test_good_document_is_taken_up"),
        ("a document (text) is taken up",),
    ),
    Defect(
        "server that starts by what was refused",
        change(
            f"{PROGRAM}/__main__.py", r"places\.ready\.unlink\(missing_ok=True\)", 'write(places.ready, "")'
        ),
        REFUSED,
        ("the server starts though its document (unknown) was refused",),
    ),
    Defect(
        "documents judged before user data is there",
        change(UNIT, "^After=cloud-init.service ", "After="),
        static("test_settings::test_documents_are_judged_between_user_data_and_the_server"),
        ("does not wait for user data",),
    ),
    Defect(
        "documents judged after EFS was asked for",
        change(UNIT, "^Before=.*\n", ""),
        static("test_settings::test_documents_are_judged_between_user_data_and_the_server"),
        ("comes after kiln-efs-check.service",),
    ),
    Defect(
        "documents judged only where there is one",
        change(UNIT, "^\\[Service\\]", "ConditionPathExists=/etc/kiln/settings.toml\n[Service]"),
        static("test_settings::test_documents_are_judged_between_user_data_and_the_server"),
        ("may be skipped: ConditionPathExists",),
    ),
    Defect(
        "refusal that no console shows",
        change(UNIT, "^StandardOutput=.*\n", ""),
        static("test_settings::test_documents_are_judged_between_user_data_and_the_server"),
        ("not on the serial console",),
    ),
    Defect(
        "server that does not wait for its settings",
        change(f"{UNITS}/monai-label.service.d/40-settings.conf", "^AssertPathExists=.*\n", ""),
        static("test_settings::test_server_waits_for_the_verdict"),
        ("AssertPathExists is not /run/kiln/settings.ready",),
    ),
    Defect(
        "drain that does not start where settings were refused",
        change(
            f"{UNITS}/kiln-drain.service.d/40-settings.conf",
            "^\\[Service\\]",
            "AssertPathExists=/run/kiln/settings.ready\n[Service]",
        ),
        static("test_settings::test_server_waits_for_the_verdict"),
        ("never completes its hook",),
    ),
    Defect(
        "stop that knows no settings",
        gone(f"{UNITS}/monai-label.service.d/70-stop.conf"),
        static("test_settings::test_stop_of_the_server_follows_its_settings"),
        ("waits as long as the image says",),
    ),
    Defect(
        "settings of somebody's instance in the image",
        several(
            write("etc/kiln/settings.toml", "schema = 1\n"),
            write("var/lib/kiln/settings/generation-a/settings.toml", "schema = 1\n"),
        ),
        static("test_settings::test_image_brings_no_document"),
        ("/etc/kiln/settings.toml",),
    ),
    Defect(
        "schema that a group may change",
        mode(SCHEMA, 0o664),
        static("test_settings::test_program_is_roots_alone"),
        ("others than root may change /usr/share/kiln/settings/1.json",),
    ),
    Defect(
        "judge with every capability",
        change(
            UNIT,
            "^(CapabilityBoundingSet|NoNewPrivileges|ProtectSystem|ReadWritePaths|Restrict|SystemCallF).*\n",
            "",
        ),
        static("test_settings::test_judge_is_confined"),
        ("CapabilityBoundingSet is unset",),
    ),
    Defect(
        "judge that is not enabled",
        gone(f"{UNITS}/multi-user.target.wants/kiln-settings.service"),
        static("test_settings::test_documents_are_judged_between_user_data_and_the_server"),
        ("is not enabled",),
    ),
]

SOUND = {
    "units": {"kiln-settings.service": UP},
    "settings": {"state": "applied", "means": "the document counts", "problems": []},
}

LIVE = [
    Answer(
        "settings that were refused",
        ("units", "kiln-settings.service", "ActiveState"),
        "failed",
        live("test_settings::test_settings_were_judged_and_count"),
        ("kiln-settings.service is failed: it says nothing",),
    ),
    Answer(
        "settings that do not count",
        ("settings", "state"),
        "kept",
        live("test_settings::test_settings_were_judged_and_count"),
        ("settings are kept",),
    ),
    Answer(
        "settings that nobody judged",
        ("settings",),
        {},
        live("test_settings::test_settings_were_judged_and_count"),
        ("settings are not judged",),
    ),
]
