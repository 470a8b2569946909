"""The settings document: schemas and downgrades, TOML, its place in user data."""

from __future__ import annotations

import base64
import json
import tomllib
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kiln import paths
from kiln.errors import RefusedError
from launch import settings
from launch.settings import Document, Table

THREE = Table.model_validate(
    {
        "schema": {
            1: {"keys": ["studies", "device"]},
            2: {"keys": ["studies", "device", "scratch"]},
            3: {"keys": ["studies", "device", "scratch", "auth", "tiles"]},
        },
        "downgrade": [
            {"schema": 2, "key": "scratch", "without": "the image's own folder is used"},
            {"schema": 3, "key": "auth", "refuse": "who may log in"},
            {"schema": 3, "key": "tiles", "to": "scratch"},
        ],
    }
)
GIVEN = {"studies": "/mnt/studies/spleen", "device": "cuda"}


def test_the_table_has_the_keys_that_the_image_judges_by() -> None:
    judged = {}
    for file in (paths.ROOT / "ansible/roles/settings/files").glob("*.json"):
        judged[int(file.stem)] = set(json.loads(file.read_bytes())["properties"]) - {"schema"}
    table = settings.load()
    assert {number: set(schema.keys) for number, schema in table.schema_.items()} == judged


def test_a_document_is_of_the_newest_schema_that_both_know() -> None:
    assert settings.document(GIVEN, [1], "i@v", THREE) == Document(1, GIVEN)
    assert settings.document(GIVEN, [1, 2, 3, 4], "i@v", THREE) == Document(3, GIVEN)


def test_without_settings_there_is_no_document() -> None:
    assert settings.document({}, [], "i@v", THREE) is None


@pytest.mark.parametrize(("reads", "words"), [([], "reads no schema"), ([9], "reads schema 9")])
def test_an_image_that_reads_none_of_ours_is_refused(reads: list[int], words: str) -> None:
    with pytest.raises(RefusedError) as refused:
        settings.document(GIVEN, reads, "i@v", THREE)
    assert words in refused.value.what
    assert "take a version that reads it" in refused.value.hint


def test_an_unknown_key_is_told_with_what_was_meant() -> None:
    with pytest.raises(RefusedError) as refused:
        settings.document({"studes": "/x"}, [1], "i@v", THREE)
    assert "studes" in refused.value.what
    assert "did you mean 'studies'?" in refused.value.hint


def test_a_downgrade_goes_schema_by_schema_and_says_what_is_lost() -> None:
    found = settings.downgraded(Document(3, {**GIVEN, "tiles": "/t"}), [1], "i@v", THREE)
    assert (found.schema, found.settings) == (1, GIVEN)
    assert found.lost == (
        "tiles is called scratch in schema 2",
        "scratch is left out in schema 1: the image's own folder is used",
    )


def test_a_downgrade_that_would_lose_who_may_log_in_is_refused() -> None:
    with pytest.raises(RefusedError) as refused:
        settings.downgraded(Document(3, {"auth": {}}), [2], "i@v", THREE)
    assert "who may log in would be lost" in refused.value.what


@pytest.mark.parametrize(
    "table",
    [
        {"schema": {1: {"keys": ["a"]}, 3: {"keys": ["a"]}}},
        {"schema": {1: {"keys": ["a"]}, 2: {"keys": ["a", "b"]}}},
        {"schema": {1: {"keys": ["a"]}, 2: {"keys": ["a", "b"]}}, "downgrade": [{"schema": 2, "key": "b"}]},
        {
            "schema": {1: {"keys": ["a"]}, 2: {"keys": ["a", "b"]}},
            "downgrade": [{"schema": 2, "key": "b", "to": "c"}],
        },
    ],
)
def test_a_table_with_a_gap_is_not_read(table: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Table.model_validate(table)


_VALUES = st.recursive(
    st.text() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda key: key != "schema"), _VALUES, max_size=4)
)
def test_what_is_written_is_read_back(data: dict[str, Any]) -> None:
    try:
        str(data).encode()
    except UnicodeEncodeError:
        return  # a lone surrogate, which no TOML file can have brought
    assert tomllib.loads(Document(1, data).as_toml()) == {"schema": 1, **data}


# ---- user data


def test_the_document_is_a_file_of_the_cloud_config() -> None:
    text = settings.merged("", Document(1, GIVEN))
    assert text.startswith("#cloud-config\n")
    (entry,) = yaml.safe_load(text)["write_files"]
    assert entry["path"] == "/etc/kiln/settings.toml"
    assert tomllib.loads(entry["content"]) == {"schema": 1, **GIVEN}
    assert settings.found(text) == Document(1, GIVEN)


def test_what_others_wrote_stays() -> None:
    given = "#cloud-config\n# ours\npackages: [chrony]\nwrite_files:\n- path: /etc/other\n  content: x\n"
    text = settings.merged(given, Document(1, GIVEN))
    parsed = yaml.safe_load(text)
    assert parsed["packages"] == ["chrony"]
    assert [each["path"] for each in parsed["write_files"]] == ["/etc/other", "/etc/kiln/settings.toml"]
    assert text.count("#cloud-config") == 1
    without = settings.merged(text, None)
    assert yaml.safe_load(without) == yaml.safe_load(given)


def test_what_is_right_is_not_written_again() -> None:
    text = settings.merged("#cloud-config\npackages:   [chrony]\n", Document(1, GIVEN))
    assert settings.merged(text, Document(1, GIVEN)) == text
    script = "#!/bin/sh\necho hello\n"
    assert settings.merged(script, None) == script


@pytest.mark.parametrize("text", ["#!/bin/sh\n", "#cloud-config\n- a list\n", "#cloud-config\na: [\n", None])
def test_what_is_no_cloud_config_is_left_alone(text: str | None) -> None:
    with pytest.raises(RefusedError) as refused:
        settings.merged(text, Document(1, GIVEN))
    assert "no cloud-config" in refused.value.what


def test_user_data_has_a_limit() -> None:
    with pytest.raises(RefusedError) as refused:
        settings.merged("", Document(1, {"studies": "x" * 20_000}))
    assert "16384" in refused.value.what


def test_base64_that_is_no_text_is_told_apart_from_none() -> None:
    assert settings.decoded(None) == ""
    assert settings.decoded(base64.b64encode(b"\x1f\x8b\x08\xff").decode()) is None
    assert settings.decoded(settings.encoded("ä")) == "ä"
