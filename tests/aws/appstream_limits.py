"""AppStream's limits, each with a value just inside and one just outside; tests and the benchmark take them.

Where botocore's model of the service has the limit, it is named, and a test holds ours against it; the others
are the administration guide's ("Session Scripts Configuration File", "Image Assistant CLI Operations").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kiln import appstream
from kiln.appstream import Appstream, Builder
from kiln.errors import UsageError
from kiln.mistakes import Section

ROLE = "arn:aws:iam::111122223333:role/kiln"
APPLICATION: dict[str, Any] = {"name": "slicer", "path": "C:\\Slicer.exe"}
BUILDER: dict[str, Any] = {
    "base": "AppStream-WinServer2022",
    "subnet": "subnet-0123456789abcdef0",
    "security_groups": ["sg-0123456789abcdef0"],
    "secret": "ssm:/kiln/builder",
}
SAID: dict[str, Any] = {"import_role": ROLE}
SCRIPT: dict[str, Any] = {"event": "start", "context": "system", "filename": "/a.sh"}


@dataclass(frozen=True)
class Limit:
    """A limit of AppStream.

    Parameters
    ----------
    name:
        What is limited.
    judge:
        Takes a value; raises where AppStream would not take it.
    inside, outside:
        A value that is just taken, and one that is just not.
    shape, kind:
        Of botocore's model, and which of its limits: ``max`` or ``pattern``; empty where it has none.
    """

    name: str
    judge: Callable[[Any], Any]
    inside: Any
    outside: Any
    shape: str = ""
    kind: str = ""

    def takes(self, value: Any) -> bool:
        """Whether a value is taken."""
        try:
            self.judge(value)
        except (UsageError, ValueError):
            return False
        return True


def key(model: type[Section], rest: dict[str, Any], name: str) -> Callable[[Any], Any]:
    """A key of kiln.toml."""
    return lambda value: model.model_validate({**rest, name: value})


def application(name: str) -> Callable[[Any], Any]:
    """A key of an application, as the role reads it too."""
    return lambda value: appstream.applications([{**APPLICATION, name: value}])


def many(count: int) -> list[dict[str, Any]]:
    """A catalogue of so many applications."""
    return [{**APPLICATION, "name": f"a{n}"} for n in range(count)]


def script(name: str) -> Callable[[Any], Any]:
    """A key of a session script."""
    return lambda value: appstream.sessions([{**SCRIPT, name: value}], 30)


def image(name: str) -> Callable[[Any], Any]:
    """A key of the image that a builder becomes."""
    return lambda value: appstream.image({"name": "kiln-slicer", name: value})


def long(length: int, end: str = "") -> str:
    """A text of a length."""
    return "a" * (length - len(end)) + end


LIMITS: tuple[Limit, ...] = (
    # ---- catalogue
    Limit("applications", appstream.applications, many(50), many(51), "AppCatalogConfig", "max"),
    Limit(
        "applications of kiln.toml",
        key(Appstream, SAID, "applications"),
        many(50),
        many(51),
        "AppCatalogConfig",
        "max",
    ),
    Limit("names are unique", appstream.applications, many(2), [APPLICATION, APPLICATION]),
    Limit(
        "names of kiln.toml are unique",
        key(Appstream, SAID, "applications"),
        [APPLICATION],
        [APPLICATION, APPLICATION],
    ),
    Limit("application.name", application("name"), long(100), long(101), "AppName", "max"),
    Limit(
        "application.name, characters",
        application("name"),
        "3D-Slicer_5.8",
        "3D Slicer",
        "AppName",
        "pattern",
    ),
    Limit("application.path", application("path"), long(32767), long(32768), "FilePath", "max"),
    Limit(
        "application.display_name", application("display_name"), long(100), long(101), "AppDisplayName", "max"
    ),
    Limit(
        "application.display_name, characters",
        application("display_name"),
        "3D Slicer",
        "3D Slicer (new)",
        "AppDisplayName",
        "pattern",
    ),
    Limit("application.icon", application("icon"), long(32767), long(32768), "FilePath", "max"),
    Limit(
        "application.working_directory",
        application("working_directory"),
        long(32767),
        long(32768),
        "FilePath",
        "max",
    ),
    Limit("application.manifest", application("manifest"), long(32767), long(32768), "FilePath", "max"),
    Limit(
        "application.launch_parameters",
        application("launch_parameters"),
        long(1024),
        long(1025),
        "LaunchParameters",
        "max",
    ),
    # ---- session scripts
    Limit("seconds of session scripts", lambda value: appstream.sessions([SCRIPT], value), 60, 61),
    Limit("seconds of session scripts, least", lambda value: appstream.sessions([SCRIPT], value), 1, 0),
    Limit("session script.filename", script("filename"), long(1000, ".sh"), long(1001, ".sh")),
    Limit("session script.filename, kind", script("filename"), "C:\\start.bat", "C:\\start.ps1"),
    Limit("session script.arguments", script("arguments"), long(1000), long(1001)),
    Limit("session script.context", script("context"), "user", "administrator"),
    Limit("session script.event", script("event"), "termination", "logon"),
    Limit(
        "session scripts of an event and context",
        lambda value: appstream.sessions(value, 30),
        [SCRIPT, {**SCRIPT, "context": "user"}],
        [SCRIPT, {**SCRIPT, "filename": "/b.sh"}],
    ),
    # ---- names
    Limit("name of an image", appstream.checked_name, long(100), long(101)),
    Limit(
        "name of an image, characters",
        appstream.checked_name,
        "kiln-slicer_1.0",
        "kiln slicer",
        "Name",
        "pattern",
    ),
    Limit("name of an image, beginning", appstream.checked_name, "kiln-aws", "AWS-kiln"),
    Limit("name of the base image", key(Builder, BUILDER, "base"), long(101), long(102)),
    Limit(
        "display_name of kiln.toml",
        key(Appstream, SAID, "display_name"),
        long(100),
        long(101),
        "ImageImportDisplayName",
        "max",
    ),
    Limit(
        "display_name of the role",
        image("display_name"),
        long(100),
        long(101),
        "ImageImportDisplayName",
        "max",
    ),
    Limit(
        "description of kiln.toml",
        key(Appstream, SAID, "description"),
        long(256),
        long(257),
        "ImageImportDescription",
        "max",
    ),
    Limit(
        "description of kiln.toml, characters",
        key(Appstream, SAID, "description"),
        "3D Slicer (5.8)",
        "3D Slicer: 5.8",
        "ImageImportDescription",
        "pattern",
    ),
    Limit(
        "tags",
        image("tags"),
        {f"a{n}": "b" for n in range(50)},
        {f"a{n}": "b" for n in range(51)},
        "Tags",
        "max",
    ),
    Limit("key of a tag", image("tags"), {long(128): "b"}, {long(129): "b"}, "TagKey", "max"),
    Limit("key of a tag, beginning", image("tags"), {"kiln:aws": "b"}, {"aws:kiln": "b"}),
    Limit("value of a tag", image("tags"), {"a": long(256)}, {"a": long(257)}, "TagValue", "max"),
    # ---- builder and import
    Limit(
        "instance type",
        key(Appstream, SAID, "validate_on"),
        "Accelerated.g4dn.xlarge",
        "g4dn",
        "InstanceType",
        "pattern",
    ),
    Limit(
        "security groups",
        key(Builder, BUILDER, "security_groups"),
        ["sg-01234567"] * 5,
        ["sg-01234567"] * 6,
        "SecurityGroupIdList",
        "max",
    ),
)
"""Every limit that kiln knows."""
