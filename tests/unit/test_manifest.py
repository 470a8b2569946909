"""The contract: what it takes, what it refuses, and its schemas."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from kiln import manifest, schemas
from kiln.published import Published
from tests.unit import contract

PUBLISHED = Published(
    contract=1,
    image="tiny",
    version=contract.VERSION,
    manifest_digest=contract.DIGEST,
    account="111122223333",
    region="us-east-1",
    ami="ami-0123456789abcdef0",
    name=f"kiln-tiny-{contract.VERSION}",
    snapshots=["snap-0123456789abcdef0"],
    encrypted=True,
    kms_key="arn:aws:kms:us-east-1:111122223333:key/1",
    boot_mode="uefi",
    made_by="ebs-direct",
    copied_from=None,
    run="publish-20260102T030405Z-abcdef",
    time=datetime(2026, 1, 2, 4, tzinfo=UTC),
)


def documents(build: Path) -> dict[str, dict[str, Any]]:
    folder = contract.put(build, verdict="refused")
    found = {name: json.loads((folder / f"{name}.json").read_text()) for name in ("manifest", "proof")}
    builder = {key: value for key, value in found["manifest"].items() if key not in ("root", "disk")}
    builder["inputs"] = {**builder["inputs"], "destination": "builder"}
    return {**found, "builder-manifest": builder, "published": json.loads(PUBLISHED.model_dump_json())}


@pytest.mark.parametrize("name", schemas.MODELS)
def test_what_is_written_is_read_back_and_suits_the_committed_schema(build: Path, name: str) -> None:
    document = documents(build)[name]
    assert json.loads(schemas.MODELS[name].model_validate(document).model_dump_json()) == document
    schema = json.loads((schemas.FOLDER / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema)


@pytest.mark.parametrize("name", schemas.MODELS)
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
            schemas.MODELS[name].model_validate(each)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(each, schema)


def test_committed_schemas_are_those_of_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert schemas.stale() == []
    monkeypatch.setattr(schemas, "FOLDER", tmp_path)
    assert schemas.stale() == [f"{name}.schema.json" for name in schemas.MODELS]
    for path, text in schemas.files().items():
        path.write_text(text.replace("sha256", "sha-256"))
    assert schemas.stale() == [f"{name}.schema.json" for name in schemas.MODELS]


def test_every_field_is_described() -> None:
    def undescribed(schema: dict[str, Any]) -> list[str]:
        return [name for name, field in schema.get("properties", {}).items() if not field.get("description")]

    for model in schemas.MODELS.values():
        whole = model.model_json_schema()
        assert not undescribed(whole)
        assert not [name for part in whole.get("$defs", {}).values() for name in undescribed(part)]


def test_a_manifest_from_before_there_were_drivers_is_read() -> None:
    facts = contract.made().facts.model_dump()
    assert facts.pop("architectures") == []
    assert manifest.Facts.model_validate(facts) == contract.made().facts


def test_a_manifest_is_read_as_what_it_is(build: Path) -> None:
    for name, model in (("manifest", manifest.Manifest), ("builder-manifest", manifest.BuilderManifest)):
        body = json.dumps(documents(build / name)[name]).encode()
        assert manifest.model_of(body) is model
        size = contract.made().root.bytes if name == "manifest" else None
        assert model.model_validate_json(body).root_bytes == size
    assert manifest.model_of(b"{") is manifest.Manifest


def test_a_manifest_never_changes(build: Path) -> None:
    made = contract.made()
    with pytest.raises(ValidationError):
        made.image = "other"


def test_sha256_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert manifest.sha256_file(tmp_path / "abc") == expected
