"""The live checks on what a guest might say: a sound one passes all, each defect fails its checks alone.

The answers and the defects are in tests/defects/rows.
"""

from __future__ import annotations

import ast
import json
import subprocess
from pathlib import Path

import pytest

from tests.defects import rows
from tests.defects.defect import Answer, wrong
from tests.defects.live import CHECKS, refusals, refused
from tests.defects.rows.base import KERNEL, VERSION
from tests.image.live import test_base as base
from tests.image.live.asked import common
from tests.image.live.asked.program import FOLDER, program


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root that was booted."""
    for folder in ("etc/ssh", f"usr/lib/modules/{KERNEL}"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setenv("KILN_ROOT", str(tmp_path))
    monkeypatch.setenv("KILN_VERSION", VERSION)
    return tmp_path


def test_sound_guest_passes() -> None:
    assert refusals(rows.sound()) == {}


def test_every_check_has_a_defect_and_every_defect_its_checks() -> None:
    assert {name for row in rows.LIVE for name in row.checks} == set(CHECKS)


def test_no_two_rows_have_one_name() -> None:
    names = [row.name for row in rows.LIVE]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("row", rows.LIVE, ids=lambda row: row.name)
def test_defect_is_seen_by_its_checks_alone(row: Answer) -> None:
    assert wrong(row, refused(row)) == ""


def test_host_keys_of_the_image_are_seen(root: Path) -> None:
    (root / "etc/ssh/ssh_host_ed25519_key").write_text("")
    with pytest.raises(AssertionError, match="the image brings ssh host keys"):
        base.test_host_keys_are_fresh(rows.sound())


def test_questions_are_asked_where_nothing_of_the_checkout_is() -> None:
    """As in a guest: Debian's python3, and no path that leads here."""
    command = ["/usr/bin/python3", "-I", "-c", program(["base", "monai_label", "seal"])]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (
        said["kernel"]
        and set(said) == rows.ROLES["base"].SOUND.keys() | rows.ROLES["monai_label"].SOUND.keys()
    )


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("sh", "-c", "echo fine"), "fine\n"),
        (("sh", "-c", "echo inactive; exit 3"), "inactive\n"),
        (("sh", "-c", "exit 3"), "sh ended with 3"),
        (("sh", "-c", "kill -9 $$"), "sh ended with -9"),
        (("true",), ""),
    ],
)
def test_a_program_that_fails_in_silence_is_no_empty_answer(command: tuple[str, ...], says: str) -> None:
    assert common.run(*command) == says


def test_a_program_that_is_not_there_is_no_empty_answer() -> None:
    assert "No such file" in common.run("kiln-no-such-program")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_a_sound_guest_says_what_is_asked(path: Path) -> None:
    asked = next(
        (part for part in ast.parse(path.read_text()).body if getattr(part, "name", "") == "answers"), None
    )
    if asked is None:
        assert path.stem in ("__init__", "common", "program")
        return
    document = next(node.value for node in ast.walk(asked) if isinstance(node, ast.Return))
    assert isinstance(document, ast.Dict)
    keys = {ast.literal_eval(key) for key in document.keys if key is not None}
    assert keys | {"units"} == rows.ROLES[path.stem].SOUND.keys() | {"units"}
