"""Slicer.ini: the keys that the module's own source reads, in a file that Qt reads as it was meant."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.slicer import module, qt
from tests.slicer.home import rendered, variables

SERVER = "https://label.example:8443"
HISTORY = ["http://one.example", "http://two.example:8000"]

UPDATES = ("ApplicationUpdate/AutoUpdateCheck", "Extensions/AutoUpdateCheck", "Extensions/AutoUpdateInstall")
"""Read by qSlicerApplicationUpdateManager and qSlicerExtensionsManagerModel at their start."""


def ini(folder: Path, **more: Any) -> Path:
    """The role's file, written."""
    known = variables(folder, slicer_server_url=SERVER, slicer_server_history=HISTORY, **more)
    (file,) = (one for one in rendered("__slicer_files", known) if one["dest"].endswith("Slicer.ini"))
    path = folder / "Slicer.ini"
    path.write_text(file["content"])
    return path


def test_module_reads_what_the_role_writes(tmp_path: Path) -> None:
    asked = module.asked(module.source())
    written = {key for key in qt.read(ini(tmp_path)) if key.startswith("MONAILabel/")}
    assert written == {"MONAILabel/serverUrl", "MONAILabel/serverUrlHistory"}
    assert written <= set(asked), "the module knows these settings by another name"


@pytest.mark.parametrize("old", ["serverUrl", "serverUrlHistory"])
def test_renamed_key_is_noticed(old: str) -> None:
    renamed = module.source().replace(f'"MONAILabel/{old}"', '"MONAILabel/address"')
    assert f"MONAILabel/{old}" not in module.asked(renamed)


def test_history_is_split_where_the_module_splits_it(tmp_path: Path) -> None:
    separator = module.asked(module.source())["MONAILabel/serverUrlHistory"].separator
    assert separator == ";"
    assert qt.read(ini(tmp_path))["MONAILabel/serverUrlHistory"].split(separator) == [SERVER, *HISTORY]


def test_changed_separator_is_noticed() -> None:
    source = module.source().replace('serverUrlHistory.split(";")', 'serverUrlHistory.split("|")')
    assert module.asked(source)["MONAILabel/serverUrlHistory"].separator == "|"


def test_qt_reads_server_home_module_and_no_updates(tmp_path: Path) -> None:
    found = qt.read(ini(tmp_path))
    assert found["MONAILabel/serverUrl"] == SERVER
    assert found["Modules/HomeModule"] == "MONAILabel"
    assert {key: found[key] for key in UPDATES} == dict.fromkeys(UPDATES, "false")


def test_plain_parsing_would_lie(tmp_path: Path) -> None:
    """Without quotes Python's parser finds the whole history, and Qt the first address alone."""
    path = ini(tmp_path)
    path.write_text(path.read_text().replace('"', ""))
    plain = configparser.RawConfigParser()
    plain.read(path)
    assert plain["MONAILabel"]["serverurlhistory"].split(";") == [SERVER, *HISTORY]
    assert qt.read(path)["MONAILabel/serverUrlHistory"] == SERVER


@pytest.mark.root
def test_what_a_session_sets_holds_in_it_and_ends_with_it(tmp_path: Path) -> None:
    """Users may not write the file, and what the start-up file sets must count all the same."""
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(folder.stat().st_mode | 0o011)
    path = ini(tmp_path)
    path.chmod(0o644)
    before = path.read_text()
    assert (
        qt.write_as_nobody(path, {"MONAILabel/serverUrl": HISTORY[0]})["MONAILabel/serverUrl"] == HISTORY[0]
    )
    assert path.read_text() == before


def test_address_stands_once_in_the_history(tmp_path: Path) -> None:
    known = variables(tmp_path, slicer_server_url=SERVER, slicer_server_history=[SERVER, *HISTORY])
    assert rendered("__slicer_settings", known)["MONAILabel/serverUrlHistory"].count(SERVER) == 1


def test_further_settings_go_over_the_roles_own(tmp_path: Path) -> None:
    more = {"Modules/HomeModule": "SampleData", "DefaultScenePath": "C:\\Data", "A/B/C d": "x;y, z"}
    found = qt.read(ini(tmp_path, slicer_settings=more))
    assert {key: found[key] for key in more} == more
    assert found["MONAILabel/serverUrl"] == SERVER


@settings(deadline=None, max_examples=15)
@given(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=20).filter(
        # Ansible's own, and Qt's mark of what is no text.
        lambda text: "{" not in text and not text.startswith("@")
    )
)
def test_any_text_arrives_at_qt(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("ini")
    more = {"Some/text": text, "Some/list": [text, "second"]}
    found = qt.read(ini(folder, slicer_settings=more))
    assert found["Some/text"] == text
    assert found["Some/list"] == [text, "second"]


@pytest.mark.parametrize("system", ["Windows", "Debian", "RedHat"])
def test_settings_are_the_same_on_every_system(tmp_path: Path, system: str) -> None:
    known = {"slicer_server_url": SERVER}
    here = [one["content"] for one in rendered("__slicer_files", known)]
    there = [one["content"] for one in rendered("__slicer_files", known, os_family=system)]
    differing = [i for i, (mine, theirs) in enumerate(zip(here, there, strict=True)) if mine != theirs]
    # server.json names the file of the session's context, which lies elsewhere.
    assert differing == ([2] if system == "Windows" else [])
