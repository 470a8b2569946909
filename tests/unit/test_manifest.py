"""The contract: what it takes, what it refuses, and its schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from kiln import manifest, schemas
from tests.unit import contract


def documents(build: Path) -> dict[str, dict[str, Any]]:
    folder = contract.put(build, verdict="refused")
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in ("manifest", "proof")}


@pytest.mark.parametrize("name", manifest.SCHEMAS)
def test_what_is_written_is_read_back_and_suits_the_committed_schema(build: Path, name: str) -> None:
    document = documents(build)[name]
    assert json.loads(manifest.SCHEMAS[name].model_validate(document).model_dump_json()) == document
    schema = json.loads((schemas.FOLDER / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema)


@pytest.mark.parametrize("name", manifest.SCHEMAS)
def test_model_and_schema_refuse_the_same(build: Path, name: str) -> None:
    document = documents(build)[name]
    schema = json.loads((schemas.FOLDER / f"{name}.schema.json").read_text())
    broken: list[dict[str, Any]] = [
        {**document, "extra": 1},
        {**document, "contract": 2},
        {**document, "version": "../../etc"},
        *({other: value for other, value in document.items() if other != key} for key in document),
    ]
    for each in broken:
        with pytest.raises(ValidationError):
            manifest.SCHEMAS[name].model_validate(each)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(each, schema)


def test_committed_schemas_are_those_of_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert schemas.stale() == []
    monkeypatch.setattr(schemas, "FOLDER", tmp_path)
    assert schemas.stale() == ["manifest.schema.json", "proof.schema.json"]
    for path, text in schemas.files().items():
        path.write_text(text.replace("sha256", "sha-256"))
    assert schemas.stale() == ["manifest.schema.json", "proof.schema.json"]


def test_every_field_is_described() -> None:
    def undescribed(schema: dict[str, Any]) -> list[str]:
        return [name for name, field in schema.get("properties", {}).items() if not field.get("description")]

    for model in manifest.SCHEMAS.values():
        whole = model.model_json_schema()
        assert not undescribed(whole)
        assert not [name for part in whole["$defs"].values() for name in undescribed(part)]


def test_a_manifest_from_before_there_were_drivers_is_read() -> None:
    facts = contract.made().facts.model_dump()
    assert facts.pop("architectures") == []
    assert manifest.Facts.model_validate(facts) == contract.made().facts


def test_a_manifest_never_changes(build: Path) -> None:
    made = contract.made()
    with pytest.raises(ValidationError):
        made.image = "other"


def test_sha256_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert manifest.sha256_file(tmp_path / "abc") == expected
