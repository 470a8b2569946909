"""Defects of the MONAI Label server, its environment and its app."""

from __future__ import annotations

from typing import Any

from tests.defects.defect import Answer, Defect, change, gone, live, mode, owner, several, static, write
from tests.defects.rows.base import UP
from tests.image.sandbox import SANDBOX

OPT = "opt/monai-label"
SITE = f"{OPT}/venv/lib/python3.11/site-packages"
HOME = "var/lib/monai-label"
APP = f"{HOME}/apps/radiology"
READAHEAD = f"{OPT}/readahead.list"
UNIT = "etc/systemd/system/monai-label.service"

STATIC = [
    Defect(
        "account with other ids",
        change("etc/passwd", "^monai-label:x:10001", "monai-label:x:4711"),
        static("test_monai_label::test_account_has_its_ids"),
        ("4711",),
    ),
    Defect(
        "service disabled",
        gone("etc/systemd/system/*.wants/monai-label.service"),
        static("test_monai_label::test_service_is_enabled"),
        ("monai-label.service is disabled",),
    ),
    Defect(
        "service as root",
        change(UNIT, "^User=.*\n", ""),
        static("test_monai_label::test_service_is_not_root"),
        ("runs as root",),
    ),
    Defect(
        "service without a sandbox",
        change(UNIT, f"^({'|'.join(SANDBOX)})=.*\n", ""),
        static("test_monai_label::test_service_is_sandboxed"),
        ("is unset",),
    ),
    Defect(
        "service without a GPU",
        change(UNIT, r"^\[Install\]", "PrivateDevices=yes\n\n[Install]"),
        static("test_monai_label::test_service_keeps_the_gpu"),
        ("PrivateDevices",),
    ),
    Defect(
        "service ready before it answers",
        change(UNIT, "^Type=notify", "Type=simple"),
        static("test_monai_label::test_service_waits_for_a_slow_first_boot"),
        ("before it answers",),
    ),
    Defect(
        "service that is killed in a slow first boot",
        change(UNIT, "^TimeoutStartSec=.*", "TimeoutStartSec=90s"),
        static("test_monai_label::test_service_waits_for_a_slow_first_boot"),
        ("killed after 90s",),
    ),
    Defect(
        "service that stays down",
        change(UNIT, "^Restart=.*", "Restart=no"),
        static("test_monai_label::test_service_waits_for_a_slow_first_boot"),
        ("would stay down",),
    ),
    Defect(
        "service that is started for ever",
        change(UNIT, "^StartLimitIntervalSec=.*", "StartLimitIntervalSec=10s"),
        static("test_monai_label::test_service_waits_for_a_slow_first_boot"),
        ("started for ever", "10s"),
    ),
    Defect(
        "a model that is downloaded at the start",
        change("etc/kiln/monai-label.env", '"sam2": "false"', '"sam2": "true"'),
        static("test_monai_label::test_settings_are_offline"),
        ("SAM2 would be downloaded",),
    ),
    Defect(
        "settings that a group may write",
        mode("etc/kiln/weights.json", 0o664),
        static("test_monai_label::test_settings_belong_to_root"),
        ("/etc/kiln/weights.json",),
    ),
    Defect(
        "a distribution that is not locked",
        write(
            f"{SITE}/kiln_surplus-0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: kiln-surplus\nVersion: 0\n",
        ),
        static("test_monai_label::test_environment_is_the_locked_one"),
        ("not in the lock: kiln-surplus 0",),
    ),
    Defect(
        "broken venv",
        gone(f"{SITE}/torch/nn/modules/linear.py"),
        static(
            "test_monai_label::test_every_file_of_the_environment_is_there",
            "test_monai_label::test_server_can_be_imported",
            "test_monai_label::test_store_fits_the_server",
        ),
        ("torch/nn/modules/linear.py", "venv broken"),
    ),
    Defect(
        "a distribution that no override leaves out is missing",
        change(f"{SITE}/monai-1.5.2.dist-info/METADATA", "^Requires-Dist: numpy", "Requires-Dist: nunpy"),
        static("test_monai_label::test_nothing_is_missing_but_what_is_overridden"),
        ("required and not there: nunpy",),
    ),
    Defect(
        "a store that does not fit the server",
        change(
            f"{OPT}/kiln_store/monai.py",
            '"LocalDatastore", SharedDatastore',
            '"OwnDatastore", SharedDatastore',
        ),
        static("test_monai_label::test_store_fits_the_server"),
        ("does not look up OwnDatastore any more",),
    ),
    Defect(
        "headers that nobody compiles with",
        write(f"{SITE}/torch/include/torch/torch.h"),
        static("test_monai_label::test_what_is_left_out_is_gone"),
        ("torch/include/torch/torch.h",),
    ),
    Defect(
        "a module without bytecode",
        gone(f"{SITE}/monai/__pycache__/__init__.*.pyc"),
        static("test_monai_label::test_bytecode_is_there_and_unchecked"),
        ("monai/__init__.py",),
    ),
    Defect(
        "a program that the service may change",
        owner(f"{OPT}/kiln_serve.py", 10001),
        static("test_monai_label::test_environment_belongs_to_root"),
        ("kiln_serve.py",),
    ),
    Defect(
        "an installer in the venv",
        write(f"{OPT}/venv/bin/uv", mode=0o755),
        static("test_monai_label::test_installers_are_gone"),
        ("venv/bin/uv",),
    ),
    Defect(
        "wrong owner of the app",
        owner(f"{APP}/main.py", 0),
        static("test_monai_label::test_app_belongs_to_the_service"),
        ("radiology/main.py",),
    ),
    Defect(
        "no weights",
        gone(f"{APP}/model/pretrained_*.pt"),
        static("test_monai_label::test_weights_are_there"),
        ("no weights for segmentation_spleen",),
    ),
    Defect(
        "no font cache",
        gone(f"{HOME}/cache/matplotlib/*"),
        static("test_monai_label::test_font_cache_is_there"),
        ("font cache",),
    ),
    Defect(
        "readahead disabled",
        gone("etc/systemd/system/*.wants/kiln-readahead.service"),
        static("test_monai_label::test_readahead_is_enabled"),
        ("kiln-readahead.service is disabled",),
    ),
    Defect(
        "a list of another image",
        change(READAHEAD, "[.]cpython-311[.]pyc$", ".cpython-312.pyc"),
        static("test_monai_label::test_readahead_knows_what_a_start_reads"),
        ("of another image",),
    ),
    Defect(
        "a list without libraries",
        change(READAHEAD, r"^.*[.]so[.\d]*\n", ""),
        static("test_monai_label::test_readahead_knows_what_a_start_reads"),
        ("lacks what every start reads: torch/lib/libtorch_cpu.so",),
    ),
    Defect(
        "a readahead that the boot waits for",
        change("etc/systemd/system/kiln-readahead.service", "^DefaultDependencies=no\n", ""),
        static("test_monai_label::test_readahead_does_not_hold_up_the_boot"),
        ("targets wait for it",),
    ),
    Defect(
        "studies closed to the group",
        mode(f"{HOME}/studies", 0o755),
        static("test_monai_label::test_studies_are_shared_by_group"),
        ("has mode 755",),
    ),
    Defect(
        "a datastore of a trial start",
        several(
            write(f"{HOME}/studies/datastore_v2.json"), owner(f"{HOME}/studies/datastore_v2.json", 10001)
        ),
        static("test_monai_label::test_no_trial_start_left_anything"),
        ("datastore_v2.json",),
    ),
]

SOUND: dict[str, Any] = {
    "units": {"monai-label.service": UP, "kiln-readahead.service": UP},
    "listening": "sl local rem st\n0: 0100007F:1F40 00000000:0000 0A\n1: 0100007F:0016 00000000:0000 01\n",
    "process": {
        "Uid": "10001\t10001\t10001\t10001",
        "Gid": "10001\t10001\t10001\t10001",
        "NoNewPrivs": "1",
        "CapEff": "0000000000000000",
        "CapPrm": "0000000000000000",
        "CapBnd": "0000000000000000",
        "CapAmb": "0000000000000000",
    },
    "mounts": "60 59 0:1 / / ro,relatime - ext4 x ro\n"
    "61 60 0:1 /a /var/lib/monai-label rw,relatime - ext4 x rw\n"
    "62 60 0:1 /b /tmp rw,relatime - ext4 x rw\n",
    "studies": [0o42770, 10001, 10001],
    "readahead": {"bytes": 609_000_000, "failed": 0, "whole": True, "seconds": 2.0},
    "info": [200, {"models": {"segmentation_spleen": {}}}],
}

LIVE = [
    Answer(
        "no server",
        ("units", "monai-label.service"),
        {},
        live("test_monai_label::test_service_is_up_at_the_first_attempt"),
        ("missing",),
    ),
    Answer(
        "server restarted",
        ("units", "monai-label.service", "NRestarts"),
        "1",
        live(
            "test_monai_label::test_service_is_up_at_the_first_attempt",
            "test_base::test_no_service_was_restarted",
        ),
        ("restarted 1 times",),
    ),
    Answer(
        "server answers with an error",
        ("info",),
        [500, "HTTPError()"],
        live("test_monai_label::test_server_answers"),
        ("answered 500",),
    ),
    Answer(
        "server without a model",
        ("info",),
        [200, {"models": {}}],
        live("test_monai_label::test_server_answers"),
        ("no model",),
    ),
    Answer(
        "server that the network reaches past the gateway",
        ("listening",),
        "sl\n0: 00000000:1F40 0:0 0A\n",
        live("test_monai_label::test_server_is_reached_by_the_gateway_alone"),
        ("open on 00000000:1F40",),
    ),
    Answer(
        "server that the network reaches by IPv6",
        ("listening",),
        f"sl\n0: 0100007F:1F40 0:0 0A\n  sl  local remote st\n0: {'0' * 32}:1F40 0:0 0A\n",
        live("test_monai_label::test_server_is_reached_by_the_gateway_alone"),
        (f"{'0' * 32}:1F40",),
    ),
    Answer(
        "server as root",
        ("process", "Uid"),
        "0\t0\t0\t0",
        live("test_monai_label::test_server_runs_as_its_user"),
        ("uids are 0",),
    ),
    Answer(
        "server of root's group",
        ("process", "Gid"),
        "0\t0\t0\t0",
        live("test_monai_label::test_server_runs_as_its_user"),
        ("gids are 0",),
    ),
    Answer(
        "server may gain privileges",
        ("process", "NoNewPrivs"),
        "0",
        live("test_monai_label::test_server_cannot_gain_privileges"),
        ("gain privileges",),
    ),
    Answer(
        "server with capabilities",
        ("process", "CapBnd"),
        "000001ffffffffff",
        live("test_monai_label::test_server_cannot_gain_privileges"),
        ("CapBnd",),
    ),
    Answer(
        "server may write everywhere",
        ("mounts",),
        "60 59 0:1 / / rw - ext4 x rw\n",
        live("test_monai_label::test_server_writes_to_its_own_folder_only"),
        ("as rw",),
    ),
    Answer(
        "readahead that did not run",
        ("readahead",),
        {},
        live("test_monai_label::test_readahead_has_read"),
        ("did not run to its end",),
    ),
    Answer(
        "readahead that found nothing",
        ("readahead", "bytes"),
        0,
        live("test_monai_label::test_readahead_has_read"),
        ("read 0 bytes",),
    ),
    Answer(
        "readahead still at it",
        ("units", "kiln-readahead.service", "ActiveState"),
        "activating",
        live("test_monai_label::test_readahead_has_read"),
        ("kiln-readahead.service is activating",),
    ),
    Answer(
        "studies of root",
        ("studies",),
        [0o40755, 0, 0],
        live("test_monai_label::test_studies_are_shared_by_group"),
        ("755 0:0",),
    ),
]
