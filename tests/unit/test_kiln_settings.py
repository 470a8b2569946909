"""Settings from user data: refused with key and reason, or taken up whole; nothing is written elsewhere."""

from __future__ import annotations

import ast
import grp
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kiln import paths
from launch.settings import Document
from scripts import facts

ROLES = paths.ROOT / "ansible/roles"
FILES = ROLES / "settings/files"
sys.path[:0] = [str(FILES), str(ROLES / "efs_client/files"), str(ROLES / "health/files")]

import kiln_efs.settings  # noqa: E402
import kiln_instance.settings  # noqa: E402
from kiln_settings import document, hand, render, schema  # noqa: E402
from kiln_settings.__main__ import main  # noqa: E402
from kiln_settings.places import Image, Places, image  # noqa: E402
from kiln_settings.store import Store  # noqa: E402
from kiln_settings.trouble import TroubleError  # noqa: E402

SCHEMA = json.loads((FILES / "1.json").read_text())
CONF = {"models": "segmentation_spleen,deepedit", "sam2": "false"}
GOOD = """\
schema = 1
studies = "/mnt/studies/wards/spleen"
app = "radiology"
models = ["segmentation_spleen"]
device = "cuda:1"

[workers]
infer_concurrency = 2
infer_timeout = 900

[efs]
host = "fs-12345678.efs.us-east-1.amazonaws.com"
port = 2050
path = "/a"
ca = "/etc/ca.pem"

[auth]
users_file = "/etc/kiln/auth/users"

[gateway]
certificate = "/etc/kiln/tls/server.crt"
certificate_key = "/etc/kiln/tls/server.key"
trusted_proxies = ["10.0.0.0/16", "fd00::/8"]

[labels]
keep_days = 7

[metrics]
namespace = "Kiln/Wards"
"""

UNITS = [f"{name}.service" for name in ("monai-label", "kiln-auth", "kiln-health", "kiln-drain", "nginx")]
"""What reads settings in the image of these tests."""

quick = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def machine(root: Path) -> Places:
    """A root with what the roles write."""
    places = Places(root)
    written = {
        "/usr/share/kiln/settings/1.json": json.dumps(SCHEMA),
        "/usr/local/lib/kiln/settings.json": json.dumps({"consumers": UNITS}),
        "/opt/monai-label/kiln_store/__init__.py": "",
        "/usr/local/lib/kiln/efs.json": json.dumps({"mount_point": "/mnt/studies"}),
        "/etc/kiln/monai-label.env": "MONAI_LABEL_APP_DIR=/var/lib/monai-label/apps/radiology\n"
        "MONAI_LABEL_STUDIES=/var/lib/monai-label/studies\n"
        f"MONAI_LABEL_APP_CONF='{json.dumps(CONF)}'\n",
        "/etc/kiln/weights.json": json.dumps({"models": ["segmentation_spleen", "deepedit"]}),
        "/etc/kiln/auth.json": json.dumps({"token_seconds": 600}),
        "/etc/kiln/auth/users": "anna:x:annotator\n",
        "/etc/kiln/gateway.json": json.dumps(
            {
                "http_port": 80,
                "https_port": 443,
                "certificate": "",
                "certificate_key": "",
                "trusted_proxies": [],
                "response_timeout": 4000,
            }
        ),
        "/etc/kiln/tls/server.crt": "certificate\n",
        "/etc/kiln/tls/server.key": "key\n",
        "/etc/ca.pem": "",
        "/var/lib/monai-label/studies/.keep": "",
    }
    for name, text in written.items():
        path = places.at(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for secret in ("auth/users", "tls/server.key"):
        places.at(f"/etc/kiln/{secret}").chmod(0o600)
    return places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return machine(tmp_path / "root")


def apply(places: Places, text: str | None = None) -> int:
    if text is not None:
        places.document.write_text(text)
    return main(["--root", str(places.root), "apply"])


def current(places: Places, name: str) -> str:
    return (places.store / "current" / name).read_text()


def listing(root: Path, *without: str) -> dict[str, Any]:
    """Every path of a root, with what is in it."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = f"/{path.relative_to(root)}"
        if not name.startswith(without):
            found[name] = (
                os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
            )
    return found


OWN = ("/var/lib/kiln", "/run")
"""Where it writes; and the link /etc/kiln/efs.env."""


def systemd_reads(text: str) -> dict[str, str]:
    """Variables of an EnvironmentFile, by the rules of systemd 252 (src/basic/env-file.c)."""
    found: dict[str, str] = {}
    state, key, value, kept = "before", "", "", 0

    def push() -> None:
        if key:
            found[key.rstrip()] = value[:kept] if state in ("value", "escape") else value

    for letter in text + "\n":
        end = letter in "\n\r"
        if state == "before":
            key, value, kept = "", "", 0
            state = "comment" if letter in "#;" else state if letter.isspace() else "key"
            key = letter if state == "key" else ""
        elif state == "key":
            if end:
                state = "before"
            elif letter == "=":
                state = "after"
            else:
                key += letter
        elif state in ("after", "value"):
            if end:
                push()
                state = "before"
            elif letter == "'" and state == "after":
                state = "single"
            elif letter == '"' and state == "after":
                state = "double"
            elif letter == "\\":
                state = "escape"
            elif state == "after" and letter in " \t":
                pass
            else:
                state = "value"
                value += letter
                kept = kept if letter in " \t" else len(value)
        elif state == "escape":
            state = "value"
            value, kept = (value, kept) if end else (value + letter, len(value) + 1)
        elif state == "single":
            state, value = ("after", value) if letter == "'" else (state, value + letter)
        elif state == "double":
            if letter == '"':
                state = "after"
            elif letter == "\\":
                state = "double escape"
            else:
                value += letter
        elif state == "double escape":
            state = "double"
            value += letter if letter in '"\\`$' else "" if letter == "\n" else f"\\{letter}"
        elif state == "comment" and end:
            state = "before"
    return found


def test_systemds_rules_are_read_as_in_its_manual() -> None:
    text = '# c\nA=b c \nB="x\\"y\\\\z\\n"\nC=\'a\\\'\n\nD="two\nlines"\n;E=f\nF=a\\\nb\n'
    assert systemd_reads(text) == {"A": "b c", "B": 'x"y\\z\\n', "C": "a\\", "D": "two\nlines", "F": "ab"}


# What a good document makes.


def test_a_document_as_launch_writes_it_is_taken_up_the_same(places: Places) -> None:
    assert apply(places, GOOD) == 0

    def made() -> dict[str, str]:
        files = (places.store / "current").iterdir()
        return {file.name: file.read_text() for file in files if file.name.endswith(".env")}

    by_hand = made()
    given = tomllib.loads(GOOD)
    written = Document(given.pop("schema"), given).as_toml()
    assert written != GOOD
    assert apply(places, written) == 0
    assert len(by_hand) > 3
    assert made() == by_hand


def test_a_document_becomes_files_of_the_units(places: Places, capfd: pytest.CaptureFixture[str]) -> None:
    before = listing(places.root, *OWN)
    assert apply(places, GOOD) == 0
    server = systemd_reads(current(places, "monai-label.env"))
    assert json.loads(server.pop("MONAI_LABEL_APP_CONF")) == {
        "models": "segmentation_spleen",
        "sam2": "false",
    }
    assert server == {
        "CUDA_VISIBLE_DEVICES": "1",
        "KILN_SERVE_DEVICE": "cuda",
        "MONAI_LABEL_INFER_CONCURRENCY": "2",
        "MONAI_LABEL_INFER_TIMEOUT": "900",
        "KILN_STORE_KEEP_DAYS": "7",
    }
    health = {
        "KILN_HEALTH_NAMESPACE": "Kiln/Wards",
        "KILN_HEALTH_REQUEST": "900",
        "KILN_HEALTH_DRAIN": "960",
        "KILN_HEALTH_STOP": "960",
        "KILN_HEALTH_WANTED": "segmentation_spleen",
        "KILN_HEALTH_GPU_WANTED": "promised",
    }
    assert systemd_reads(current(places, "kiln-health.env")) == health
    assert systemd_reads(current(places, "kiln-drain.env")) == health
    # Understood by who reads it; where the studies are mounted stays what the image says.
    assert kiln_instance.settings.load(health).studies == "/mnt/studies"
    assert kiln_efs.settings.parse(current(places, "efs.env")) == kiln_efs.settings.Settings(
        "fs-12345678.efs.us-east-1.amazonaws.com", 2050, "/a", "wards/spleen", "/etc/ca.pem"
    )
    assert json.loads(current(places, "auth.json")) == {
        "token_seconds": 600,
        "users_file": "/etc/kiln/auth/users",
    }
    assert systemd_reads(current(places, "kiln-auth.env")) == {
        "KILN_AUTH_SETTINGS": "/var/lib/kiln/settings/current/auth.json"
    }
    assert systemd_reads(current(places, "nginx.env")) == {
        "KILN_GATEWAY_SETTINGS": "/var/lib/kiln/settings/current/gateway.json"
    }
    # What the role has set stays, and what nginx's own program reads is whole.
    assert json.loads(current(places, "gateway.json")) == {
        "http_port": 80,
        "https_port": 443,
        "certificate": "/etc/kiln/tls/server.crt",
        "certificate_key": "/etc/kiln/tls/server.key",
        "trusted_proxies": ["10.0.0.0/16", "fd00::/8"],
        "response_timeout": 4000,
    }
    after = listing(places.root, *OWN)
    assert after.pop("/etc/kiln/efs.env") == "/var/lib/kiln/settings/current/efs.env"
    assert after.pop("/etc/kiln/settings.toml") == GOOD.encode()
    assert after == before
    assert json.loads(places.status.read_text())["state"] == "applied"
    assert places.ready.exists()
    assert "the document counts" in capfd.readouterr().err


def test_without_a_document_the_images_own_settings_count(places: Places) -> None:
    before = listing(places.root, *OWN)
    assert apply(places) == 0
    assert listing(places.root, *OWN) == before
    assert list(places.store.iterdir()) == []
    assert json.loads(places.status.read_text())["state"] == "defaults"
    assert places.ready.exists()


@pytest.mark.parametrize(
    ("line", "variables"),
    [
        ('device = "cpu"', {"CUDA_VISIBLE_DEVICES": ""}),
        ('device = "cuda"', {"KILN_SERVE_DEVICE": "cuda"}),
        ('device = "auto"', {}),
        (
            'studies = "/var/lib/monai-label/studies/spleen"',
            {"MONAI_LABEL_STUDIES": "/var/lib/monai-label/studies/spleen"},
        ),
        ('[efs]\nhost = "fs.test"', {}),
    ],
)
def test_a_setting_becomes_variables(places: Places, line: str, variables: dict[str, str]) -> None:
    assert apply(places, f"schema = 1\n{line}\n") == 0
    path = places.store / "current/monai-label.env"
    assert (systemd_reads(path.read_text()) if path.exists() else {}) == variables


def test_a_limit_of_inference_counts_by_itself() -> None:
    """Upstream has none at its default concurrency of -1, and kiln-health would find the server hung."""
    written = (ROLES / "monai_label/templates/monai-label.env.j2").read_text()
    assert int(systemd_reads(written)["MONAI_LABEL_INFER_CONCURRENCY"]) >= 1


@pytest.mark.parametrize(("timeout", "waits"), [(600, None), (3940, None), (3941, 4001), (86_400, 86_460)])
def test_nginx_waits_as_long_as_an_inference_may_last(
    places: Places, timeout: int, waits: int | None
) -> None:
    assert apply(places, f"schema = 1\n[workers]\ninfer_timeout = {timeout}\n") == 0
    path = places.store / "current/gateway.json"
    assert (json.loads(path.read_text())["response_timeout"] if path.exists() else None) == waits


def test_the_same_document_again_changes_nothing(places: Places) -> None:
    assert apply(places, GOOD) == 0
    before = listing(places.root, "/run")
    status = os.stat(places.store / "current", follow_symlinks=False)
    assert apply(places) == 0
    assert listing(places.root, "/run") == before
    assert os.stat(places.store / "current", follow_symlinks=False) == status


def test_another_document_takes_its_place_whole(places: Places) -> None:
    assert apply(places, GOOD) == 0
    assert apply(places, 'schema = 1\ndevice = "cpu"\n') == 0
    assert {path.name for path in (places.store / "current/").iterdir()} == {
        "kiln-drain.env",
        "kiln-health.env",
        "monai-label.env",
        "settings.toml",
    }
    # The link that kiln-efs's generator looks at leads nowhere again.
    assert places.efs.is_symlink() and not places.efs.exists()
    assert len(list(places.store.iterdir())) == 2


# What is refused.


def pair(certificate: str, key: str) -> str:
    return f"schema = 1\n[gateway]\ncertificate = '{certificate}'\ncertificate_key = '{key}'"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "schema is missing; this image reads 1"),
        ("schema = 2", "schema is 2; this image reads 1"),
        ("schema = true", "schema is True; this image reads 1"),
        ('schema = "1"', "schema is '1'; this image reads 1"),
        ("schema = 1\nstudys = 1", "studys is no setting"),
        ("schema = 1\nmodels = 'a'", "models is no list: 'a'"),
        ("schema = 1\nmodels = []", "models has 0 entries, not 1 to 32"),
        ("schema = 1\nmodels = ['deepedit', 'deepedit']", "models[1] is there twice"),
        (
            "schema = 1\nmodels = ['vista']",
            "models[0] is 'vista'; this image has weights of segmentation_spleen",
        ),
        ("schema = 1\napp = 'vista2d'", "app is 'vista2d'; this image has radiology"),
        ("schema = 1\ndevice = 'gpu'", "device has not the form that is needed: 'gpu'"),
        (
            "schema = 1\n[workers]\ninfer_concurrency = '2'",
            "workers.infer_concurrency is no whole number from 1",
        ),
        ("schema = 1\n[workers]\ninfer_concurrency = true", "workers.infer_concurrency is no whole number"),
        ("schema = 1\n[workers]\ninfer_concurrency = 1.0", "workers.infer_concurrency is no whole number"),
        (
            "schema = 1\n[workers]\ninfer_concurrency = 0",
            "workers.infer_concurrency is 0, not a whole number from 1",
        ),
        ("schema = 1\n[workers]\n'a\\nb' = 0", "workers.'a\\\\nb' is no setting"),
        ("schema = 1\nworkers = 3", "workers is no table: 3"),
        ("schema = 1\n[efs]", "efs.host is missing"),
        ("schema = 1\n[efs]\nhost = 'a b'", "efs.host has not the form"),
        (
            "schema = 1\n[efs]\nhost = 'a'\nca = '/etc/none.pem'",
            "efs.ca is '/etc/none.pem', which is not there",
        ),
        ("schema = 1\n[efs]\nhost = 'a'\nca = '/root/x'", "efs.ca has not the form"),
        ("schema = 1\nstudies = '/mnt/studies'\n[efs]\nhost = 'a'", "studies is the mount point itself"),
        ("schema = 1\nstudies = '/mnt/studies/a'", "studies is on EFS, and efs.host is not set"),
        ("schema = 1\nstudies = '/srv/a'\n[efs]\nhost = 'a'", "studies is on the disk, and efs is set"),
        ("schema = 1\nstudies = '/etc/kiln'", "studies is '/etc/kiln', where the server may not write"),
        ("schema = 1\nstudies = '/var/lib/monai-label/studies/../../x'", "studies has not the form"),
        (
            "schema = 1\nstudies = '/var/lib/monai-label/studiesx'",
            "studies is '/var/lib/monai-label/studiesx', wh",
        ),
        ("schema = 1\nstudies = 'a'", "studies has not the form"),
        ("schema = 1\nstudies = '/a\\nb'", "studies has not the form"),
        ("schema = 1\nstudies = 1979-05-27", "studies is no string"),
        ("schema = 1\n[auth]", "auth needs users_file or oidc, one of them"),
        (
            "schema = 1\n[auth]\nusers_file = '/etc/kiln/none'",
            "auth.users_file names a file that is not there",
        ),
        (
            "schema = 1\n[auth]\nusers_file = '/etc/kiln/weights.json'",
            "auth.users_file names a file that others can read",
        ),
        ("schema = 1\n[auth.oidc]\nissuer = 'https://a'", "auth.oidc.audience is missing"),
        ("schema = 1\n[auth.oidc]\nissuer = 'http://a'\naudience = 'b'", "auth.oidc.issuer has not the form"),
        (
            "schema = 1\n[gateway]\ncertificate = '/etc/kiln/tls/server.crt'",
            "gateway.certificate_key is missing",
        ),
        (
            "schema = 1\n[gateway]\ncertificate_key = '/etc/kiln/tls/server.key'",
            "gateway.certificate is missing",
        ),
        (
            pair("/etc/kiln/tls/none", "/etc/kiln/tls/server.key"),
            "gateway.certificate names a file that is not there",
        ),
        (
            pair("/etc/kiln/tls/server.crt", "/etc/kiln/tls/server.crt"),
            "gateway.certificate_key names a file that others can read",
        ),
        (
            pair("/etc/kiln/tls", "/etc/kiln/tls/server.key"),
            "gateway.certificate names no plain file",
        ),
        (
            "schema = 1\n[gateway]\ntrusted_proxies = ['10.0.0.1/16']",
            "gateway.trusted_proxies[0] is '10.0.0.1/16', which is no network",
        ),
        ("schema = 1\n[gateway]\ntrusted_proxies = ['0.0.0.0/0']", "gateway.trusted_proxies[0] is everybody"),
        ("schema = 1\n[gateway]\ntrusted_proxies = ['a']", "gateway.trusted_proxies[0] has not the form"),
        ("schema = ", "the document is no TOML: Invalid value"),
        ("schema = 1\nschema = 1", "the document is no TOML: Cannot overwrite"),
        ("a = " + "[" * 30_000, "the document is no TOML: nested too deep"),
        ("a = " + "1" * 5_000, "the document is no TOML"),
        ("#" * 70_000, "is larger than 64 KiB"),
    ],
)
def test_what_is_refused_is_named_with_a_remedy_and_nothing_is_written(
    places: Places, text: str, what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    places.document.write_text(text)
    before = listing(places.root, *OWN)
    assert apply(places) == 1
    assert listing(places.root, *OWN) == before
    assert list(places.store.iterdir()) == []
    said = capfd.readouterr().err.splitlines()
    assert said[0].startswith("<3>error: settings: ") and what in said[0]
    assert said[1].startswith("<3>  fix: ") and len(said[1]) > len("<3>  fix: ")
    assert len(said) == 3 and "the server does not start" in said[2]
    told = json.loads(places.status.read_text())
    assert told["state"] == "refused" and what in told["problems"][0]["what"]
    # The server asserts this file: it does not start with what nobody asked for.
    assert not places.ready.exists()


def test_every_problem_is_told_by_check(places: Places, capfd: pytest.CaptureFixture[str]) -> None:
    text = "schema = 1\nstudys = 1\nmodels = 3\n"
    places.document.write_text(text)
    assert main(["--root", str(places.root), "check"]) == 1
    assert capfd.readouterr().err == (
        "error: settings: studys is no setting\n  fix: did you mean studies?\n"
        "error: settings: models is no list: 3\n  fix: models of the app that are loaded, among those whose"
        ' weights the image has; such as ["segmentation_spleen"]\n'
    )
    assert apply(places) == 1
    assert "studys is no setting (and 1 more: kiln-settings check)" in capfd.readouterr().err


def test_check_writes_nothing(places: Places, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trial = tmp_path / "trial.toml"
    trial.write_text(GOOD)
    before = listing(places.root)
    assert main(["--root", str(places.root), "check", str(trial)]) == 0
    assert listing(places.root) == before
    assert (
        "it makes auth.json, efs.env, gateway.json, kiln-auth.env, kiln-drain.env, kiln-h"
        in capfd.readouterr().out
    )
    assert main(["--root", str(places.root), "check", str(tmp_path / "none")]) == 1


SHARED = "[efs]\nhost = 'fs.test'\n"
BALANCED = "[gateway]\ntrusted_proxies = ['10.0.0.0/16']\n"
ISSUER = "[auth.oidc]\nissuer = 'https://sso.test'\naudience = 'a'\n"


@pytest.mark.parametrize(
    ("text", "key", "doubted"),
    [
        (SHARED, False, "efs"),
        (BALANCED, False, "gateway.trusted_proxies"),
        (SHARED + BALANCED, True, ""),
        (SHARED + ISSUER, False, ""),
        ("[labels]\nkeep_days = 7\n", False, ""),
    ],
)
def test_several_servers_with_a_key_each_are_doubted(
    places: Places, text: str, key: bool, doubted: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Behind a load balancer a log-in would count at every other request."""
    if key:
        places.at("/etc/kiln/auth/signing.key").write_text("0" * 64)
    assert apply(places, f"schema = 1\n{text}") == 0
    # It counts all the same: whoever brings a key later is not kept from starting now.
    assert places.ready.exists()
    told = json.loads(places.status.read_text())
    assert [each["key"] for each in told["warnings"]] == ([doubted] if doubted else [])
    assert ("<4>warning: settings: " in capfd.readouterr().err) is bool(doubted)
    assert main(["--root", str(places.root), "check"]) == 0
    said = capfd.readouterr().err
    words = (
        f"warning: settings: {doubted} is for several servers, and /etc/kiln/auth/signing.key is not there"
    )
    assert (words in said and "  fix: " in said) if doubted else not said
    assert main(["--root", str(places.root), "status"]) == 0
    assert (f"warning: {doubted} is for several" in capfd.readouterr().out) is bool(doubted)


def test_the_last_good_document_stays_in_force(places: Places, capfd: pytest.CaptureFixture[str]) -> None:
    assert apply(places, GOOD) == 0
    before = listing(places.root, "/run", "/etc/kiln/settings.toml")
    shutil.rmtree(places.at("/run"))
    assert apply(places, GOOD.replace('"cuda:1"', '"gpu"')) == 1
    assert listing(places.root, "/run", "/etc/kiln/settings.toml") == before
    assert places.ready.exists()
    assert json.loads(places.status.read_text())["state"] == "kept"
    assert "the one of before counts" in capfd.readouterr().err


def test_a_document_that_vanished_is_no_wish_for_the_images_own_settings(
    places: Places, capfd: pytest.CaptureFixture[str]
) -> None:
    assert apply(places, GOOD) == 0
    assert main(["--root", str(places.root), "forget"]) == 1
    places.document.unlink()
    assert apply(places) == 1
    assert "kiln-settings forget" in capfd.readouterr().err
    assert current(places, "settings.toml") == GOOD
    assert main(["--root", str(places.root), "forget"]) == 0
    assert list(places.store.iterdir()) == []
    assert json.loads(places.status.read_text())["state"] == "defaults"


def test_settings_that_nothing_would_read_are_refused(
    places: Places, capfd: pytest.CaptureFixture[str]
) -> None:
    places.at("/usr/local/lib/kiln/settings.json").write_text('{"consumers": ["monai-label.service"]}')
    places.at("/usr/local/lib/kiln/efs.json").unlink()
    shutil.rmtree(places.at("/opt/monai-label/kiln_store"))
    assert apply(places, GOOD) == 1
    assert {each["key"] for each in json.loads(places.status.read_text())["problems"]} >= {
        "auth",
        "efs",
        "labels",
        "metrics",
    }


def test_a_pasted_password_is_not_repeated(places: Places, capfd: pytest.CaptureFixture[str]) -> None:
    assert apply(places, "schema = 1\n[auth]\nusers_file = 'hunter2'\n") == 1
    assert "hunter2" not in capfd.readouterr().err + places.status.read_text()


def test_settings_of_efs_by_hand_stay(places: Places, capfd: pytest.CaptureFixture[str]) -> None:
    places.efs.write_text("EFS_HOST=by.hand\n")
    assert apply(places, GOOD) == 1
    assert "/etc/kiln/efs.env was written by hand" in capfd.readouterr().err
    assert places.efs.read_text() == "EFS_HOST=by.hand\n"


def test_studies_do_not_lead_through_a_link(places: Places, capfd: pytest.CaptureFixture[str]) -> None:
    places.at("/var/lib/monai-label/studies/out").symlink_to("/etc")
    assert apply(places, "schema = 1\nstudies = '/var/lib/monai-label/studies/out/x'\n") == 1
    assert "leads through the link '/var/lib/monai-label/studies/out'" in capfd.readouterr().err


def test_a_document_that_others_may_change_is_refused(
    places: Places, capfd: pytest.CaptureFixture[str]
) -> None:
    places.document.write_text(GOOD)
    places.document.chmod(0o646)
    assert apply(places) == 1
    assert "may be changed by others than root" in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["folder", "pipe", "latin-1"])
def test_a_document_that_is_none_is_refused(
    places: Places, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if kind == "folder":
        places.document.mkdir()
    elif kind == "pipe":
        os.mkfifo(places.document)
    else:
        places.document.write_bytes("schema = 1 # Größe".encode("latin-1"))
    assert apply(places) == 1
    assert re.search("no plain file|no UTF-8|cannot be read", capfd.readouterr().err)


def test_a_disk_that_cannot_be_written_is_told(places: Places, capfd: pytest.CaptureFixture[str]) -> None:
    places.document.write_text(GOOD)
    places.store.mkdir(parents=True)
    # A folder in the place of the link: what was meant to be there can never be.
    (places.store / "current").mkdir()
    (places.store / "current/x").touch()
    assert apply(places) == 1
    assert "the files of the units cannot be written" in capfd.readouterr().err
    assert not places.ready.exists()


def test_an_image_that_cannot_be_read_is_told_in_two_lines(
    places: Places, capfd: pytest.CaptureFixture[str]
) -> None:
    assert apply(places, GOOD) == 0
    places.at("/etc/kiln/weights.json").write_text("{")
    assert apply(places) == 1
    said = capfd.readouterr().err.splitlines()[-3:]
    assert "could not be judged: Expecting property name" in said[0] and "restart kiln-settings" in said[1]
    assert not places.ready.exists()


# Any document.

WORDS = st.one_of(
    st.sampled_from(
        [
            "cpu",
            "cuda",
            "radiology",
            "segmentation_spleen",
            "/mnt/studies/a",
            "/var/lib/monai-label/studies",
            "..",
        ]
    ),
    st.text(max_size=20),
)
VALUES = st.recursive(
    st.one_of(
        st.booleans(), st.integers(-10, 10**6), st.floats(allow_nan=True), WORDS, st.datetimes(), st.dates()
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


def tables(part: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema has in mind, or nearly."""
    if "const" in part:
        near: st.SearchStrategy[Any] = st.just(part["const"])
    elif part["type"] == "object":
        known = {name: tables(inner) for name, inner in part["properties"].items()}
        near = st.fixed_dictionaries({}, optional=known)
    elif part["type"] == "array":
        near = st.lists(tables(part["items"]), min_size=1, max_size=3)
    elif part["type"] == "string":
        near = st.one_of(st.sampled_from(part["examples"]), st.from_regex(part["pattern"]))
    else:
        near = st.integers(part["minimum"] - 1, part["maximum"] + 1)
    # One in four is anything at all.
    return st.integers(0, 3).flatmap(lambda choice: VALUES if choice == 0 else near)


NEAR = st.tuples(
    st.fixed_dictionaries({}, optional={name: tables(part) for name, part in SCHEMA["properties"].items()}),
    st.one_of(st.just({}), st.dictionaries(st.text(max_size=8), VALUES, max_size=2)),
).map(lambda pair: {"schema": 1, **pair[0], **pair[1]})


def toml(value: Any) -> str:
    """A value as TOML writes it inline."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(letter):08x}" for letter in value) + '"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return value.isoformat() if hasattr(value, "isoformat") else repr(value)


def written(found: dict[str, Any]) -> str:
    return "".join(f"{toml(key)} = {toml(value)}\n" for key, value in found.items())


def whole_floats(value: Any) -> bool:
    """Whether JSON Schema would call a float of it an integer, which TOML tells apart."""
    if isinstance(value, dict | list):
        return any(map(whole_floats, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and value.is_integer()


@quick
@given(NEAR)
def test_the_program_judges_as_the_schema_says(found: dict[str, Any]) -> None:
    ours = list(schema.judge(found, schema.known(SCHEMA)))
    theirs = list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(found))
    if not ours:
        assert not theirs
    elif not theirs:
        # In a JSON Schema a $ also stands before a last line's end, for this library.
        assert whole_floats(found) or any(problem.what.startswith("has not the form") for problem in ours)


@settings(quick, max_examples=60)
@given(found=NEAR)
@example(found={"schema": 1, "\x1b[2J": 1})
@example(found={"schema": 1, "device": "cpu\n"})
@example(found={"schema": 1, "studies": "/var/lib/monai-label/studies\nLD_PRELOAD=x"})
def test_any_document_is_taken_whole_or_refused_with_key_and_reason(
    found: dict[str, Any], places: Places
) -> None:
    shutil.rmtree(places.at("/run"), ignore_errors=True)
    shutil.rmtree(places.store, ignore_errors=True)
    places.efs.unlink(missing_ok=True)
    text = written(found)
    assert tomllib.loads(text).keys() == found.keys()
    places.document.write_text(text)
    before = listing(places.root, *OWN, "/etc/kiln/efs.env")
    code = apply(places)
    told = json.loads(places.status.read_text())
    assert listing(places.root, *OWN, "/etc/kiln/efs.env") == before
    assert code == (0 if told["state"] == "applied" else 1)
    assert places.ready.exists() == (code == 0)
    if code == 0:
        assert not told["problems"] and current(places, "settings.toml") == text
    else:
        assert list(places.store.iterdir()) == []
        for problem in told["problems"]:
            assert problem["key"].split(".")[0].split("[")[0] in problem["what"]
            for line in (problem["what"], problem["do"]):
                assert line and line.isprintable() and len(line) < 400


@quick
@given(st.text(max_size=200))
@example("schema = 1\x00")
def test_any_text_is_refused_in_lines(text: str) -> None:
    try:
        document.judge(document.parse(text), Image(), Places(Path("/nowhere")))
    except TroubleError as error:
        # What is TOML comes to its end at the schema: none lies there.
        assert all(str(problem).isprintable() and problem.do for problem in error.problems)
    else:
        pytest.fail("a document without a schema was not refused")


@quick
@given(st.dictionaries(st.from_regex(r"\A[A-Z_]{1,8}\Z"), st.text(max_size=30), max_size=4))
@example({"A": "x\"\\$`%i'; B=1"})
@example({"A": "\\"})
@example({"A": " a "})
def test_a_value_cannot_leave_its_line(variables: dict[str, str]) -> None:
    if all(value.isprintable() for value in variables.values()):
        assert systemd_reads(render.environment(variables)) == variables
    else:
        with pytest.raises(ValueError, match="cannot be a variable's value"):
            render.environment(variables)


def test_a_shell_reads_the_same(tmp_path: Path) -> None:
    value = "x\"\\$`%i'; B=1 $HOME \\"
    (tmp_path / "env").write_text(render.environment({"A": value}))
    script = f'. {tmp_path}/env; printf "%s|%s" "$A" "$B"'
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env={})
    assert said.stdout == f"{value}|"


# Killed, and at once.

KILLED = """
import os, signal, sys
left = int(sys.argv.pop(1))
calls = "mkdir rename remove rmdir symlink chmod".split()
events = {"open", "tempfile.mkdtemp", *("os." + name for name in calls)}
def count(event, arguments):
    global left
    if event in events and root in str(arguments[0]) + str(arguments[1:2]):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
root = sys.argv[2]
from kiln_settings.__main__ import main
sys.addaudithook(count)
sys.exit(main())
"""


def killed_at(places: Places, step: int) -> int:
    """Exit code of a run that is killed before it touches so many paths of the root."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(step), "--root", str(places.root), "apply"],
        env={**os.environ, "PYTHONPATH": str(FILES)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def test_killed_at_any_step_it_is_the_old_or_the_new_and_the_next_run_ends_well(tmp_path: Path) -> None:
    first = 'schema = 1\ndevice = "cpu"\n'
    whole = machine(tmp_path / "whole")
    assert apply(whole, GOOD) == 0
    new = listing(whole.store / "current/").keys()
    for step in range(200):
        places = machine(tmp_path / str(step))
        assert apply(places, first) == 0
        old = listing(places.store / "current/")
        places.document.write_text(GOOD)
        code = killed_at(places, step)
        found = listing(places.store / "current/")
        assert found == old or current(places, "settings.toml") == GOOD
        if current(places, "settings.toml") == GOOD:
            assert found.keys() == new
        assert apply(places) == 0
        assert current(places, "settings.toml") == GOOD
        assert len(list(places.store.iterdir())) == 2
        assert [path.name for path in places.efs.parent.iterdir() if path.name.startswith(".")] == []
        if code == 0:
            break
    assert code == 0 and step > 15


def test_killed_at_the_first_boot_the_server_does_not_start(tmp_path: Path) -> None:
    for step in range(0, 40, 5):
        places = machine(tmp_path / str(step))
        places.document.write_text(GOOD)
        if killed_at(places, step) == 0:
            break
        assert not places.ready.exists()
    assert step > 10


def test_several_at_once_end_with_one_generation(places: Places) -> None:
    places.document.write_text(GOOD)
    command = [sys.executable, "-m", "kiln_settings", "--root", str(places.root), "apply"]
    running = [
        subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(FILES)}, stderr=subprocess.DEVNULL)
        for _ in range(4)
    ]
    assert [one.wait() for one in running] == [0] * 4
    assert len(list(places.store.iterdir())) == 2
    assert current(places, "settings.toml") == GOOD


# What is in the image.


def test_the_drain_alone_starts_whatever_its_document() -> None:
    """What is to end ends also where a document was refused: its lifecycle hook waits for the drain."""
    variables = yaml.safe_load((ROLES / "settings/vars/main.yml").read_text())
    rendered = jinja2.Template(variables["__settings_drop_ins"]).render(
        settings_consumers=UNITS, __settings_units="", lookup=lambda _, name, **__: (FILES / name).read_text()
    )
    made = {each["dest"]: each["content"] for each in ast.literal_eval(rendered.strip())}
    takes = {unit: made[f"/{unit}.d/40-settings.conf"] for unit in UNITS}
    assert all("EnvironmentFile=-/var/lib/kiln/settings/current/%p.env" in text for text in takes.values())
    waits = {unit for unit, text in takes.items() if "\nAssertPathExists=/run/kiln/settings.ready\n" in text}
    assert waits == set(UNITS) - {"kiln-drain.service"}


def test_facts_name_the_schemas_of_the_role(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_bytes((FILES / "1.json").read_bytes())
    assert facts._settings_schemas(tmp_path) == schema.numbers(tmp_path) == [1]
    assert str(Places().schemas) == f"/{facts.SETTINGS}"


def properties(part: dict[str, Any], key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, inner in part.get("properties", {}).items():
        yield f"{key}{name}", inner
        yield from properties(inner, f"{key}{name}.")
    if "items" in part:
        yield f"{key[:-1]}[]", part["items"]


def test_the_schema_is_one_and_says_of_each_key_what_it_is() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    schema.known(SCHEMA)
    for key, part in properties(SCHEMA):
        assert part["description"][0].islower() and part["description"][-1] != ".", key
        if "properties" not in part:
            assert part["examples"], key
            for one in part["examples"]:
                jsonschema.validate(one, part)
        if part.get("type") == "string":
            assert part["pattern"][0] == "^" and part["pattern"][-1] == "$" and part["maxLength"], key


@pytest.mark.parametrize(
    "planted",
    [
        {"minLength": 1},
        {"properties": {"a": {"type": "object", "properties": {}}}},
        {"items": {"format": "x"}},
    ],
)
def test_a_schema_that_would_be_judged_in_part_is_refused(planted: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="the schema has"):
        schema.known({**SCHEMA, **planted})


def test_every_key_is_rendered() -> None:
    """A key that changes no file would be passed over in silence."""
    places_image = Image(tuple(UNITS), conf=json.dumps(CONF), mount_point="/mnt/studies")
    keys = [key for key, part in properties(SCHEMA) if "properties" not in part and "[]" not in key]
    # Demanded of the image, and rendered into nothing.
    for key in set(keys) - {"schema", "app"}:
        part: Any = SCHEMA
        names = key.split(".")
        for name in names:
            part = part["properties"][name]
        found: dict[str, Any] = {"schema": 1}
        inner = found
        for name in names[:-1]:
            inner = inner.setdefault(name, {"host": "h"} if name == "efs" else {})
        without = render.files(json.loads(json.dumps(found)), places_image)
        inner[names[-1]] = part["examples"][0]
        if key == "studies":
            found["efs"] = {"host": "h"}
            without = render.files({"schema": 1, "efs": {"host": "h"}}, places_image)
        if key == "efs.host":
            inner["host"] = "other"
        assert render.files(found, places_image) != without, key


def test_the_example_is_a_cloud_config_whose_document_counts(places: Places) -> None:
    text = (paths.ROOT / "docs/settings.cloud-config.yaml").read_text()
    assert text.startswith("#cloud-config\n")
    files = {each["path"]: each for each in yaml.safe_load(text)["write_files"]}
    for path, each in files.items():
        target = places.at(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(each["content"])
        target.chmod(int(each["permissions"], 8))
    assert apply(places) == 0
    assert set(document.parse(files["/etc/kiln/settings.toml"]["content"])) == set(SCHEMA["properties"])


def test_the_image_is_read_as_the_roles_write_it(places: Places) -> None:
    found = image(places)
    assert (found.app_dir, found.studies) == (
        "/var/lib/monai-label/apps/radiology",
        "/var/lib/monai-label/studies",
    )
    assert json.loads(found.conf) == CONF and found.mount_unit == "mnt-studies.mount"


def test_a_generation_that_leads_elsewhere_does_not_count(places: Places) -> None:
    places.store.mkdir(parents=True)
    (places.store / "current").symlink_to("../../../etc")
    assert Store(places.store).current() is None


GROUP = 4711
"""Of kiln-auth, in these tests."""


@pytest.fixture
def kiln_auth(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the account of kiln-auth; a settings program of root's."""
    if os.geteuid():
        pytest.skip("only root gives files away")

    def group(name: str) -> grp.struct_group:
        assert name == "kiln-auth"
        return grp.struct_group((name, "x", GROUP, []))

    monkeypatch.setattr(hand.grp, "getgrnam", group)


def owned(path: Path) -> tuple[int, int, str]:
    status = path.lstat()
    return status.st_uid, status.st_gid, oct(status.st_mode & 0o7777)


@pytest.mark.usefixtures("kiln_auth")
def test_kiln_auth_may_read_what_user_data_brought_and_nobody_else(places: Places) -> None:
    key, other = places.at("/etc/kiln/auth/signing.key"), places.at("/etc/kiln/users")
    for path in (key, other):
        path.write_text("x")
        path.chmod(0o600)
    assert apply(places, 'schema = 1\n[auth]\nusers_file = "/etc/kiln/users"\n') == 0
    for path in (key, other, places.at("/etc/kiln/auth/users")):
        assert owned(path) == (0, GROUP, "0o640")
    assert owned(places.at("/etc/kiln/auth.json"))[1] == 0
    # Once more changes nothing, also where the users come without any document of settings.
    places.document.unlink()
    assert main(["--root", str(places.root), "forget"]) == 0
    assert owned(key) == (0, GROUP, "0o640")


@pytest.mark.usefixtures("kiln_auth")
def test_users_of_a_document_that_stays_in_force_are_read_on(places: Places) -> None:
    assert apply(places, 'schema = 1\n[auth]\nusers_file = "/etc/kiln/auth/users"\n') == 0
    users = places.at("/etc/kiln/auth/users")
    users.unlink()
    users.write_text("ben:x:admin\n")
    users.chmod(0o600)
    assert apply(places, "schema = 999\n") == 1
    assert json.loads(places.status.read_text())["state"] == "kept"
    assert owned(users) == (0, GROUP, "0o640")


@pytest.mark.usefixtures("kiln_auth")
def test_no_file_of_others_is_given_away(places: Places, tmp_path: Path) -> None:
    folder, secret = places.at("/etc/kiln/auth"), tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    (folder / "link").symlink_to(secret)
    (folder / "folder").mkdir(mode=0o700)
    os.mkfifo(folder / "pipe", 0o600)
    somebodys = folder / "somebodys"
    somebodys.write_text("x")
    somebodys.chmod(0o600)
    os.chown(somebodys, 1234, 1234)
    assert apply(places, "schema = 1\n") == 0
    assert owned(secret) == (0, 0, "0o600")
    assert owned(somebodys) == (1234, 1234, "0o600")
    assert {owned(folder / name)[1] for name in ("folder", "pipe", "link")} == {0}


def test_without_kiln_auth_every_file_stays_as_it_is(places: Places) -> None:
    with pytest.raises(KeyError):
        grp.getgrnam(hand.GROUP)
    assert apply(places, GOOD) == 0
    assert owned(places.at("/etc/kiln/auth/users"))[2] == "0o600"
