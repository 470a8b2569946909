"""kiln.toml's limits of AppStream are the service's own, each with a value inside and one outside."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from kiln import appstream
from kiln.appstream import Application, Appstream, Builder
from launch.cloud import service_model

ROLE = "arn:aws:iam::111122223333:role/kiln"
APPLICATION = {"name": "slicer", "path": "C:\\Slicer.exe"}
BUILDER = {
    "base": "AppStream-WinServer2022",
    "subnet": "subnet-0123456789abcdef0",
    "security_groups": ["sg-0123456789abcdef0"],
    "secret": "ssm:/kiln/builder",
}
SAID = {"import_role": ROLE}


def takes(model: type[BaseModel], given: dict[str, Any]) -> bool:
    try:
        model.model_validate(given)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("model", "rest", "key", "inside", "outside"),
    [
        (Application, APPLICATION, "name", "a" * 100, "a" * 101),
        (Application, APPLICATION, "name", "3D-Slicer_5.8", "3D Slicer"),
        (Application, APPLICATION, "display_name", "a" * 100, "a" * 101),
        (Application, APPLICATION, "display_name", "3D Slicer", "3D Slicer (new)"),
        (Application, APPLICATION, "launch_parameters", "a" * 1024, "a" * 1025),
        (Application, APPLICATION, "path", "a" * 32767, "a" * 32768),
        (Appstream, SAID, "display_name", "a" * 100, "a" * 101),
        (Appstream, SAID, "description", "a" * 256, "a" * 257),
        (Appstream, SAID, "description", "3D Slicer (5.8)", "3D Slicer: 5.8"),
        (Appstream, SAID, "validate_on", "Accelerated.g4dn.xlarge", "g4dn"),
        (
            Appstream,
            SAID,
            "applications",
            [{**APPLICATION, "name": f"a{n}"} for n in range(50)],
            [{**APPLICATION, "name": f"a{n}"} for n in range(51)],
        ),
        (Appstream, SAID, "applications", [APPLICATION], [APPLICATION, APPLICATION]),
        (Builder, BUILDER, "security_groups", ["sg-01234567"] * 5, ["sg-01234567"] * 6),
        (Builder, BUILDER, "base", "a" * 101, "a" * 102),
    ],
)
def test_a_limit_has_an_inside_and_an_outside(
    model: type[BaseModel], rest: dict[str, Any], key: str, inside: Any, outside: Any
) -> None:
    assert takes(model, {**rest, key: inside})
    assert not takes(model, {**rest, key: outside})


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


def test_lengths_are_those_of_the_services_model() -> None:
    shapes = service_model("appstream")
    assert shapes.shape_for("AppCatalogConfig").metadata["max"] == appstream.APPLICATIONS
    assert shapes.shape_for("LaunchParameters").metadata["max"] == 1024
    assert shapes.shape_for("FilePath").metadata["max"] == 32767
    assert shapes.shape_for("SecurityGroupIdList").metadata["max"] == 5


def test_an_image_that_nobody_can_make_is_refused() -> None:
    assert not takes(Appstream, {})
    assert not takes(Appstream, {"builder": BUILDER}), "a builder without applications"
    assert takes(Appstream, {"builder": BUILDER, "applications": [APPLICATION]})
    assert Builder.model_validate(BUILDER).reached_at == 5986
    assert Builder.model_validate({**BUILDER, "connect": "ssh"}).reached_at == 22
    assert not takes(Builder, {**BUILDER, "secret": "the password itself"})
