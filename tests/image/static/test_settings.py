"""Settings from user data: taken up by the image's own program, or refused before the server starts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host

from tests.image.tree import Tree, settings, shown, unit

PROGRAM = "/usr/local/lib/kiln"
SCHEMAS = "/usr/share/kiln/settings"
UNITS = "/etc/systemd/system"
NAME = "kiln-settings.service"

GOOD = 'schema = 1\ndevice = "cpu"\n[workers]\ninfer_concurrency = 3\ninfer_timeout = 900\n'
MADE = {
    "CUDA_VISIBLE_DEVICES": "",
    "MONAI_LABEL_INFER_CONCURRENCY": "3",
    "MONAI_LABEL_INFER_TIMEOUT": "900",
}
REFUSED = {
    "unknown": ('schema = 1\ndevices = "cpu"\n', "devices is no setting"),
    "type": (
        "schema = 1\n[workers]\ninfer_concurrency = true\n",
        "workers.infer_concurrency is no whole number",
    ),
    "outside": (
        'schema = 1\nstudies = "/etc/kiln"\n',
        "studies is '/etc/kiln', where the server may not write",
    ),
    "newer": ("schema = 999\n", "schema is 999; this image reads"),
    "text": ("no settings\n", "the document is no TOML"),
}
"""Documents, and what must be said of each."""

CONFINED = {
    "CapabilityBoundingSet": "CAP_CHOWN CAP_DAC_READ_SEARCH",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ReadWritePaths": "/etc/kiln",
    "RestrictAddressFamilies": "AF_UNIX",
    "SystemCallFilter": "@system-service",
}

# Has the image's own program take up documents in a root beside, with what the image says of itself.
_PROGRAM = f"""
import json, pathlib, shutil, subprocess, sys, tempfile
made = {{}}
with tempfile.TemporaryDirectory() as name:
    for case, text in json.loads(sys.argv[1]).items():
        root = pathlib.Path(name) / case
        for known in ({SCHEMAS!r}, "/etc/kiln", {PROGRAM!r}):
            shutil.copytree(known, root / known[1:], symlinks=True)
        # The image's own would be one that another check refuses.
        (root / "etc/kiln/settings.toml").unlink(missing_ok=True)
        if text is not None:
            (root / "etc/kiln/settings.toml").write_text(text)
        done = subprocess.run(
            ["/usr/local/sbin/kiln-settings", "--root", str(root), "apply"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        store = root / "var/lib/kiln/settings"
        made[case] = {{
            "code": done.returncode,
            "said": done.stdout,
            "files": {{path.name: path.read_text() for path in sorted((store / "current").glob("*"))}},
            "left": sorted(path.name for path in store.glob("*")),
            "ready": (root / "run/kiln/settings.ready").exists(),
        }}
print(json.dumps(made))
"""


@pytest.fixture(scope="module")
def taken(host: Host) -> dict[str, dict[str, Any]]:
    """What the program makes of each document."""
    cases = {"none": None, "good": GOOD, **{case: text for case, (text, _) in REFUSED.items()}}
    done = host.run("python3 -c %s %s", _PROGRAM, json.dumps(cases))
    assert done.rc == 0, f"kiln-settings takes nothing up: {done.stderr.strip()[-200:]}"
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def consumers(host: Host) -> list[str]:
    found: list[str] = json.loads(host.file(f"{PROGRAM}/settings.json").content_string)["consumers"]
    assert found, "nobody takes settings"
    return found


def test_good_document_is_taken_up(taken: dict[str, dict[str, Any]]) -> None:
    said = taken["good"]
    assert said["code"] == 0 and said["ready"], f"a good document is refused: {said['said'][:200]}"
    made = settings(said["files"].get("monai-label.env", ""))
    wrong = [f"{key} {made.get(key, 'unset')}" for key, value in MADE.items() if made.get(key) != value]
    assert not wrong, f"the server is not told what the document says: {shown(wrong)}"


def test_without_a_document_nothing_changes(taken: dict[str, dict[str, Any]]) -> None:
    said = taken["none"]
    assert said["code"] == 0 and said["ready"], f"no document stops the server: {said['said'][:200]}"
    assert not said["left"], f"no document makes {shown(said['left'])}"


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_document_is_refused_by_name(taken: dict[str, dict[str, Any]], case: str) -> None:
    said = taken[case]
    assert said["code"] == 1, f"a document ({case}) is taken up: {said['said'][:200]}"
    assert not said["ready"], f"the server starts though its document ({case}) was refused"
    assert not said["left"], f"a document ({case}) that was refused left {shown(said['left'])}"
    lines = said["said"].splitlines()
    assert REFUSED[case][1] in lines[0] and "fix: " in lines[1], (
        f"refused ({case}) without a reason: {lines[0]}"
    )


def test_documents_are_judged_between_user_data_and_the_server(host: Host, tree: Tree) -> None:
    said = unit(host.file(f"{UNITS}/{NAME}").content_string)
    assert "cloud-init.service" in " ".join(said.get("After", [])).split(), (
        f"{NAME} does not wait for user data"
    )
    late = {"kiln-efs-check.service", "kiln-efs-tunnel.service"} - set(
        " ".join(said.get("Before", [])).split()
    )
    assert not late, f"{NAME} comes after {shown(sorted(late))}"
    assert f"{UNITS}/multi-user.target.wants/{NAME}" in tree, f"{NAME} is not enabled"
    skipped = [key for key in said if key.startswith(("Condition", "Assert"))]
    assert not skipped, f"{NAME} may be skipped: {shown(skipped)}"
    assert said.get("StandardOutput") == ["journal+console"], "what is refused is not on the serial console"


def test_server_waits_for_the_verdict(host: Host) -> None:
    for consumer in consumers(host):
        said = unit(host.file(f"{UNITS}/{consumer}.d/40-settings.conf").content_string)
        for key, value in (
            ("After", NAME),
            ("Wants", NAME),
            ("AssertPathExists", "/run/kiln/settings.ready"),
            ("EnvironmentFile", "-/var/lib/kiln/settings/current/%p.env"),
        ):
            if (key, consumer) == ("AssertPathExists", "kiln-drain.service"):
                assert key not in said, "an instance whose settings were refused never completes its hook"
                continue
            assert said.get(key) == [value], f"{consumer} starts whatever its settings: {key} is not {value}"


def test_stop_of_the_server_follows_its_settings(host: Host) -> None:
    if not {"monai-label.service", "kiln-drain.service"} <= set(consumers(host)):
        return
    folder = f"{UNITS}/monai-label.service.d"
    names = sorted(host.file(folder).listdir())
    said = {
        name: value
        for name in names
        for value in unit(host.file(f"{folder}/{name}").content_string).get("EnvironmentFile", [])
    }
    # Of two files that set a variable, systemd takes the one that is named last.
    last = list(said.values())[-1]
    assert last == "-/var/lib/kiln/settings/current/kiln-drain.env", (
        f"a stop of the server waits as long as the image says, whatever its settings: {last} counts"
    )


def test_image_brings_no_document(tree: Tree) -> None:
    found = tree.matching("/etc/kiln/settings.toml", "/var/lib/kiln/settings/*")
    assert not found, f"settings of somebody's instance: {shown(found)}"


def test_program_is_roots_alone(tree: Tree) -> None:
    paths = ["/usr/local/sbin/kiln-settings", *tree.below(f"{PROGRAM}/kiln_settings", SCHEMAS)]
    open_ = [path for path in paths if tree[path].uid or tree[path].mode & 0o022]
    assert not open_, f"others than root may change {shown(open_)}"


@pytest.mark.parametrize("setting", CONFINED)
def test_judge_is_confined(host: Host, setting: str) -> None:
    said = unit(host.file(f"{UNITS}/{NAME}").content_string)
    found = said.get(setting, ["unset"])
    assert found == [CONFINED[setting]], f"{NAME} may do too much: {setting} is {shown(found)}"
