"""The contract's JSON Schemas, made from the models and committed for readers without Python."""

from __future__ import annotations

import json
from pathlib import Path

from kiln.manifest import SCHEMAS, Strict
from kiln.published import Published

FOLDER = Path(__file__).parent

MODELS: dict[str, type[Strict]] = {**SCHEMAS, "published": Published}
"""Name → model of each file of the contract that is JSON of ours."""


def files() -> dict[Path, str]:
    """Return each schema's file and what it should hold.

    Returns
    -------
    dict of Path to str
        File beside this module → its text.
    """
    return {
        FOLDER / f"{name}.schema.json": json.dumps(_schema(name), indent=1, ensure_ascii=False) + "\n"
        for name in MODELS
    }


def _schema(name: str) -> dict[str, object]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **MODELS[name].model_json_schema(mode="serialization"),
    }


def stale() -> list[str]:
    """Return the names of the files that differ from their models.

    Returns
    -------
    list of str
        Also those that are missing; empty when all is well.
    """
    return [path.name for path, text in files().items() if not path.exists() or path.read_text() != text]
