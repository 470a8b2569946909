"""AppStream's limits that kiln checks are the service's own, each with a value inside and one outside."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from kiln import appstream
from kiln.appstream import Application, Appstream, Builder, SessionScript
from kiln.errors import UsageError
from launch.cloud import service_model
from tests.aws.appstream_limits import APPLICATION, BUILDER, LIMITS, SAID, SCRIPT, Limit


def takes(model: type[BaseModel], given: dict[str, Any]) -> bool:
    try:
        model.model_validate(given)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_a_limit_has_an_inside_and_an_outside(limit: Limit) -> None:
    assert limit.takes(limit.inside)
    assert not limit.takes(limit.outside)


def size(value: Any) -> int:
    """Of what the service counts: a catalogue, tags, a text, or the text within."""
    while isinstance(value, dict) and len(value) == 1:
        value = next(each for each in (*value.keys(), *value.values()) if len(each) > 1)
    return len(value)


@pytest.mark.parametrize(
    "limit", [limit for limit in LIMITS if limit.kind == "max"], ids=lambda limit: limit.name
)
def test_a_length_is_that_of_the_services_model(limit: Limit) -> None:
    most = service_model("appstream").shape_for(limit.shape).metadata["max"]
    assert (size(limit.inside), size(limit.outside)) == (most, most + 1)


@pytest.mark.parametrize(
    "limit", [limit for limit in LIMITS if limit.kind == "pattern"], ids=lambda limit: limit.name
)
def test_a_pattern_of_the_services_model_judges_the_same(limit: Limit) -> None:
    theirs = service_model("appstream").shape_for(limit.shape).metadata["pattern"]
    assert re.search(theirs, limit.inside) and not re.search(theirs, limit.outside)


def test_two_names_are_limited_by_more_than_the_model() -> None:
    """The Image Assistant takes 100 characters, the API 101; a base image is only named to the API."""
    theirs = service_model("appstream").shape_for("Name").metadata["pattern"]
    assert re.search(theirs, "a" * (appstream.NAME_LENGTH + 1))
    assert not re.search(theirs, "a" * (appstream.NAME_LENGTH + 2))


def pattern(model: type[BaseModel], key: str) -> str:
    schema = model.model_json_schema()["properties"][key]
    found = schema.get("pattern") or next(each["pattern"] for each in schema["anyOf"] if "pattern" in each)
    return str(found)


@pytest.mark.parametrize(
    ("model", "key", "shape"),
    [
        (Application, "name", "AppName"),
        (Application, "display_name", "AppDisplayName"),
        (Appstream, "display_name", "ImageImportDisplayName"),
        (Appstream, "description", "ImageImportDescription"),
        (Appstream, "validate_on", "InstanceType"),
        (Builder, "base", "Name"),
    ],
)
def test_patterns_are_those_of_the_services_model(model: type[BaseModel], key: str, shape: str) -> None:
    theirs = service_model("appstream").shape_for(shape).metadata["pattern"]
    assert re.compile(pattern(model, key)) == re.compile(theirs)


def test_an_image_that_nobody_can_make_is_refused() -> None:
    assert not takes(Appstream, {})
    assert not takes(Appstream, {"builder": BUILDER}), "a builder without applications"
    assert takes(Appstream, {"builder": BUILDER, "applications": [APPLICATION]})
    assert Builder.model_validate(BUILDER).reached_at == 5986
    assert Builder.model_validate({**BUILDER, "connect": "ssh"}).reached_at == 22
    assert not takes(Builder, {**BUILDER, "secret": "the password itself"})


def test_a_catalogue_is_read_as_kiln_toml_has_it() -> None:
    found = appstream.applications([{**APPLICATION, "icon": None, "launch_parameters": ""}])
    assert found == [Application(**APPLICATION)]
    with pytest.raises(UsageError) as refused:
        appstream.applications([{**APPLICATION, "prewarm": "x"}])
    assert "application 1, prewarm" in refused.value.what and "launch_parameters" in refused.value.hint
    with pytest.raises(UsageError) as refused:
        appstream.applications([{**APPLICATION, "name": "3D Slicer"}])
    assert "\n" not in refused.value.what and "unique in the catalogue" in refused.value.hint


def test_session_scripts_become_appstreams_file() -> None:
    found = appstream.sessions([{**SCRIPT, "s3_log": False}], 45)
    assert found == {
        "SessionStart": {
            "executables": [
                {"context": "system", "filename": "/a.sh", "arguments": "", "s3LogEnabled": False}
            ],
            "waitingTime": 45,
        },
        "SessionTermination": {"executables": [], "waitingTime": 45},
    }
    assert SessionScript.model_validate(SCRIPT).s3_log


def test_the_role_gets_what_kiln_toml_says() -> None:
    assert appstream.variables(None) == {}
    assert appstream.variables(Appstream.model_validate(SAID)) == {}
    said = Appstream.model_validate(
        {**SAID, "applications": [APPLICATION], "servers": {"kiln-readers": "http://label.example:8000"}}
    )
    assert appstream.variables(said) == {
        "appstream_applications": [APPLICATION],
        "appstream_servers": {"kiln-readers": "http://label.example:8000"},
    }
    for wrong in ("label.example", 'http://a"; rm', "ftp://label.example"):
        assert not takes(Appstream, {**SAID, "servers": {"kiln-readers": wrong}})
