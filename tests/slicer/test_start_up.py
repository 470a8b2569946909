"""The start-up file, in a Slicer that runs it: whose word it takes; and Slicer starts whatever it finds."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slicer.home import Home, installed, rendered

BAKED = "http://monai-label.kiln.internal"
OTHER = "https://label.example:8443"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return installed(tmp_path_factory.mktemp("slicer"))


@pytest.fixture
def home(made: Home) -> Iterator[Home]:
    """The installed one, without what a session or a test before has left."""
    kept = {path: path.read_text() for path in (made.ini, made.start_up, made.path / "kiln/server.json")}
    yield made
    for path, text in kept.items():
        path.write_text(text)
    context(made).unlink(missing_ok=True)


def context(home: Home) -> Path:
    return home.path.parent / "session-context.json"


def test_image_names_the_server_where_the_session_is_silent(home: Home) -> None:
    assert home.server() == BAKED


def test_module_is_found_and_is_what_is_shown_first(home: Home) -> None:
    said = home.start("print(slicer.app.moduleNames(), slicer.app.selectedModule())").stdout
    assert "['MONAILabel', 'MONAILabelReviewer', 'SampleData'] MONAILabel" in said


@pytest.mark.parametrize(
    ("variable", "value", "server"),
    [
        ("KILN_SERVER_URL", OTHER, OTHER),
        ("KILN_SERVER_URL", f" {OTHER}/ ", OTHER),
        ("KILN_SERVER_URL", json.dumps({"server_url": OTHER}), OTHER),
        ("KILN_SERVER_URL", "http://[fd00::1]:8000", "http://[fd00::1]:8000"),
        ("KILN_SERVER_URL", "", BAKED),
        ("KILN_SERVER_URL", "label.example", BAKED),
        ("KILN_SERVER_URL", "ftp://label.example", BAKED),
        ("KILN_SERVER_URL", "http://", BAKED),
        ("KILN_SERVER_URL", "http://label.example:none", BAKED),
        ("KILN_SERVER_URL", "http://somebody:secret@label.example", BAKED),
        ("KILN_SERVER_URL", "http://one.example;http://two.example", BAKED),
        ("KILN_SERVER_URL", "http://label.example/a b", BAKED),
        ("KILN_SERVER_URL", '{"server_url": 1}', BAKED),
        ("KILN_SERVER_URL", '{"server_url', BAKED),
        ("APPSTREAM_SESSION_CONTEXT", json.dumps({"server_url": OTHER}), OTHER),
        ("APPSTREAM_SESSION_CONTEXT", OTHER, BAKED),
        ("APPSTREAM_SESSION_CONTEXT", '{"study": "1.2.3"}', BAKED),
        ("APPSTREAM_SESSION_CONTEXT", '{"server_url": null}', BAKED),
    ],
)
def test_session_may_name_its_server(home: Home, variable: str, value: str, server: str) -> None:
    assert home.server(**{variable: value}) == server


@pytest.mark.parametrize(
    ("text", "server"),
    [
        (json.dumps({"server_url": OTHER, "study": "1.2.3"}), OTHER),
        ("", BAKED),
        (OTHER, BAKED),
        ("{}", BAKED),
        ("[1, 2]", BAKED),
        ('{"server_url": "file:///etc/passwd"}', BAKED),
        ("{" + " " * 100_000, BAKED),
    ],
)
def test_session_may_name_its_server_in_a_file(home: Home, text: str, server: str) -> None:
    context(home).write_text(text)
    assert home.server() == server


def test_file_that_is_no_text_leaves_the_images_server(home: Home) -> None:
    context(home).write_bytes(b"\xff\xfe\x00")
    assert home.server() == BAKED


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_waited_for(home: Home, make: Callable[[Path], None]) -> None:
    make(context(home))
    try:
        assert home.server() == BAKED
    finally:
        shutil.rmtree(context(home)) if context(home).is_dir() else context(home).unlink()


def test_nearest_word_counts(home: Home) -> None:
    said = {
        "KILN_SERVER_URL": "http://variable.example",
        "APPSTREAM_SESSION_CONTEXT": '{"server_url": "http://appstream.example"}',
    }
    context(home).write_text('{"server_url": "http://file.example"}')
    assert home.server(**said) == "http://variable.example"
    del said["KILN_SERVER_URL"]
    assert home.server(**said) == "http://appstream.example"
    assert home.server() == "http://file.example"


def test_server_comes_first_in_the_history_and_once(home: Home) -> None:
    assert home.asked("MONAILabel/serverUrlHistory", KILN_SERVER_URL=OTHER) == f"{OTHER};{BAKED}"
    assert home.asked("MONAILabel/serverUrlHistory") in (BAKED, f"{BAKED};{OTHER}")


def test_start_up_file_leaves_no_name_in_the_console(home: Home) -> None:
    said = home.start("print('LEFT', [n for n in globals() if 'kiln' in n or n == 'json'])").stdout
    assert "LEFT []" in said


@pytest.mark.parametrize(
    "text", ["raise RuntimeError('planted')", "def broken(:", "import nothing_of_the_kind", "1 / 0"]
)
def test_slicer_starts_though_its_start_up_file_raises(home: Home, text: str) -> None:
    home.start_up.write_text(text)
    done = home.start("print('STARTED', slicer.app.settings().value('MONAILabel/serverUrl'))")
    assert done.returncode == 0
    assert f"STARTED {BAKED}" in done.stdout
    assert "Error" in done.stderr


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"server_url": "no address"}'])
def test_start_up_file_never_raises(home: Home, text: str | None) -> None:
    """Whatever became of the file beside it: the settings stay, and nothing is thrown at Slicer."""
    server = home.path / "kiln/server.json"
    server.unlink() if text is None else server.write_text(text)
    done = home.start("print('STARTED', slicer.app.settings().value('MONAILabel/serverUrl'))")
    assert done.returncode == 0
    assert f"STARTED {BAKED}" in done.stdout
    assert "Traceback" not in done.stderr


def test_wrapper_names_the_start_up_file(home: Home) -> None:
    said = home.start("import os; print('NAMED', os.environ['SLICERRC'])", SLICERRC="/nowhere").stdout
    assert f"NAMED {home.start_up}" in said


def test_whatever_starts_slicer_finds_the_start_up_file() -> None:
    files = {
        one["dest"]: one["content"]
        for one in rendered(
            "__slicer_linux_files", {"__slicer_report": {}, "__slicer_facts": {}, "__slicer_licences": {}}
        )
    }
    start_up = rendered("__slicer_start_up", {})
    assert files["/etc/environment.d/60-kiln-slicer.conf"] == f"SLICERRC={start_up}\n"
    assert files["/etc/profile.d/kiln-slicer.sh"] == f"export SLICERRC={start_up}\n"
    entry = files["/usr/share/applications/slicer.desktop"]
    assert "\nExec=/opt/slicer/kiln/slicer %F\n" in entry
    assert f"\nSLICERRC={start_up}\n" in files["/opt/slicer/kiln/slicer"]
