"""What an AppStream image is to be: its catalogue, its session scripts, how it is imported, its builder.

kiln.toml says it, and the role ``appstream`` takes the same data: :func:`variables`. The limits are those of
the service's own model (CreateImportedImage of AppStream's API, 2016-12-01) and of the administration guide,
"Image Assistant CLI Operations" and "Session Scripts Configuration File"; a test compares them with
botocore's model where it has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from kiln import mistakes
from kiln.errors import UsageError
from kiln.mistakes import Section

_Model = TypeVar("_Model", bound=Section)

APPLICATIONS = 50
"""Most that a catalogue may have."""

RESERVED = ("aws", "appstream", "amazon")
"""What the name of an image may not begin with: AWS keeps these for its own."""

NAME_LENGTH = 100
"""Of an image, as the Image Assistant has it; the API alone would take 101."""

IMAGE_NAME = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,100}$"

WAITING_SECONDS = 60
"""How long the session scripts of an event may take."""

FilePath = Annotated[str, StringConstraints(min_length=1, max_length=32767, pattern=r"^[^\x00\r\n]+$")]
RoleArn = Annotated[
    str, StringConstraints(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/[A-Za-z0-9_+=,.@/-]{1,512}$")
]

InstanceType = Annotated[
    str,
    StringConstraints(
        pattern=r"^[a-zA-Z0-9-]+(\.[a-z0-9-]+)+\.(small|medium|large|xlarge|\d+xlarge|metal)$", max_length=100
    ),
]
"""An AppStream instance type: ``stream.*`` for AWS's own images, families such as ``Accelerated.g5.xlarge``
for imported ones."""

DisplayName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.() -]+$", min_length=1, max_length=100)]
Description = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.() -]+$", min_length=1, max_length=256)]


class Application(Section):
    """``[[image.NAME.appstream.applications]]``: an icon in the catalogue that users click."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,99}$")] = Field(
        description="name of the application, unique in the catalogue", examples=["slicer"]
    )
    path: FilePath = Field(
        description="absolute path of what is started (.exe or .bat on Windows)",
        examples=["C:\\Slicer\\Slicer.exe"],
    )
    display_name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_. -]{0,99}$")] | None = (
        Field(default=None, description="what users read below the icon", examples=["3D Slicer"])
    )
    icon: FilePath | None = Field(
        default=None,
        description="absolute path of its icon, a PNG of at most 256 by 256",
        examples=["C:\\a.png"],
    )
    working_directory: FilePath | None = Field(
        default=None, description="absolute path of the folder that it starts in", examples=["C:\\Slicer"]
    )
    launch_parameters: (
        Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^[^\x00\r\n]+$")] | None
    ) = Field(default=None, description="its command line", examples=["--no-splash"])
    manifest: FilePath | None = Field(
        default=None,
        description="absolute path of a text file with the files to read ahead, one a line",
        examples=["C:\\Slicer\\prewarm.txt"],
    )


class SessionScript(Section):
    """A program that AppStream runs when a session starts or ends, before the user sees or after."""

    event: Literal["start", "termination"] = Field(description="when it runs", examples=["start"])
    context: Literal["system", "user"] = Field(description="as whom it runs", examples=["system"])
    filename: Annotated[
        str, StringConstraints(pattern=r"^[^\x00\r\n]+\.(bat|exe|sh)$", min_length=1, max_length=1000)
    ] = Field(
        description="absolute path of what is run: .exe or .bat on Windows, .sh on Linux",
        examples=["C:\\AppStream\\SessionScripts\\start.bat"],
    )
    arguments: Annotated[str, StringConstraints(pattern=r"^[^\x00\r\n]*$", max_length=1000)] = Field(
        default="", description="its arguments, as one text", examples=["-File C:\\start.ps1"]
    )
    s3_log: bool = Field(
        default=True, description="whether what it prints goes to AppStream's bucket", examples=[True]
    )


class Builder(Section):
    """``[image.NAME.appstream.builder]``: the image builder that the image is made on."""

    base: Annotated[str, StringConstraints(pattern=IMAGE_NAME)] = Field(
        description="AppStream image to start from, one of AWS's own",
        examples=["AppStream-WinServer2022-10-08-2026"],
    )
    instance_type: InstanceType = Field(
        default="stream.standard.large",
        description="AppStream instance type of the builder",
        examples=["stream.standard.large"],
    )
    subnet: Annotated[str, StringConstraints(pattern=r"^subnet-[0-9a-f]{8,17}$")] = Field(
        description="subnet of its network interface, which this machine can reach",
        examples=["subnet-0123456789abcdef0"],
    )
    security_groups: list[Annotated[str, StringConstraints(pattern=r"^sg-[0-9a-f]{8,17}$")]] = Field(
        min_length=1,
        max_length=5,
        description="security groups that let this machine in: port 5986 for winrm, 22 for ssh",
        examples=[["sg-0123456789abcdef0"]],
    )
    role: RoleArn | None = Field(
        default=None,
        description="role of the builder, its profile appstream_machine_role",
        examples=["arn:aws:iam::111122223333:role/kiln-builder"],
    )
    prepared: bool = Field(
        default=False,
        description="whether base has Ansible's account already; if not, see kiln builder seed",
        examples=[True],
    )
    internet: bool = Field(
        default=False, description="whether AppStream gives it a way to the internet", examples=[False]
    )
    connect: Literal["winrm", "ssh"] = Field(
        default="winrm",
        description="how commands get in: winrm over https for Windows, ssh for Linux",
        examples=["winrm"],
    )
    user: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,19}$")] = Field(
        default="kiln-ansible",
        description="account in the base image that Ansible logs in as",
        examples=["kiln-ansible"],
    )
    secret: Annotated[
        str, StringConstraints(pattern=r"^(env:[A-Z][A-Z0-9_]*|ssm:/\S+|secretsmanager:\S+)$")
    ] = Field(
        description="where its password (winrm) or key (ssh) is: env:NAME, ssm:/NAME, secretsmanager:ID",
        examples=["ssm:/kiln/builder"],
    )
    port: int | None = Field(
        default=None, ge=1, le=65535, description="port, 5986 for winrm and 22 for ssh", examples=[5986]
    )
    certificate: Literal["validate", "ignore"] = Field(
        default="ignore",
        description="whether the certificate of winrm is judged; a builder makes its own, signed by none",
        examples=["ignore"],
    )

    @property
    def reached_at(self) -> int:
        """The port, as given or as usual."""
        return self.port or {"winrm": 5986, "ssh": 22}[self.connect]


class Appstream(Section):
    """``[image.NAME.appstream]``: what makes an image one of AppStream."""

    display_name: DisplayName | None = Field(
        default=None, description="name of the image for people", examples=["3D Slicer"]
    )
    description: Description | None = Field(
        default=None, description="what the image is for", examples=["3D Slicer with MONAI Label"]
    )
    import_role: RoleArn | None = Field(
        default=None,
        description="role by which AppStream reads the AMI that it imports",
        examples=["arn:aws:iam::111122223333:role/kiln-appstream-import"],
    )
    validate_on: InstanceType | None = Field(
        default=None,
        description="instance type, billed for an hour, on which AppStream tries an import; use the fleet's",
        examples=["Accelerated.g4dn.xlarge"],
    )
    agent: Literal["CURRENT_LATEST", "ALWAYS_LATEST"] = Field(
        default="CURRENT_LATEST",
        description="AppStream's agent: pinned to the newest of today, or always the newest",
        examples=["CURRENT_LATEST"],
    )
    applications: list[Application] = Field(
        default_factory=list, max_length=APPLICATIONS, description="the catalogue"
    )
    servers: dict[
        Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,100}$")],
        Annotated[
            str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.-]+(:\d{1,5})?(/[A-Za-z0-9._~/-]*)?$")
        ],
    ] = Field(
        default_factory=dict,
        description="fleet → server of its sessions, where that is another than the image's own",
        examples=[{"kiln-readers": "https://monai-label.example.org"}],
    )
    builder: Builder | None = Field(default=None, description="its image builder; none for an imported image")

    @field_validator("applications", mode="after")
    @classmethod
    def _names_are_unique(cls, value: list[Application]) -> list[Application]:
        if twice := _twice(application.name for application in value):
            raise ValueError(f"the name of an application stands twice: {', '.join(twice)}")
        return value

    @model_validator(mode="after")
    def _there_is_a_way(self) -> Appstream:
        if self.import_role is None and self.builder is None:
            raise mistakes.hinted(
                "an AppStream image is imported or made on a builder, and neither is here",
                'add import_role = "arn:aws:iam::..." or a table builder',
            )
        if self.builder is not None and not self.applications:
            raise mistakes.hinted(
                "an image of a builder without applications shows its users nothing",
                "add [[image.NAME.appstream.applications]] with name and path",
            )
        return self


def _twice(names: Iterable[str]) -> list[str]:
    found = list(names)
    return sorted({name for name in found if found.count(name) > 1})


# ---- the same data for the role


def variables(said: Appstream | None) -> dict[str, Any]:
    """Return what kiln.toml says as variables of the role ``appstream``.

    Parameters
    ----------
    said:
        ``[image.NAME.appstream]``, None where there is none.

    Returns
    -------
    dict
        Only what is said: the rest has the role's own defaults.
    """
    if said is None:
        return {}
    found = {
        "appstream_applications": [each.model_dump(exclude_none=True) for each in said.applications],
        "appstream_servers": dict(said.servers),
    }
    return {name: value for name, value in found.items() if value}


def applications(given: Iterable[Mapping[str, Any]]) -> list[Application]:
    """Read a catalogue, however it was written down.

    Parameters
    ----------
    given:
        The applications, with the keys of kiln.toml; what is None or empty counts as not given.

    Returns
    -------
    list of Application
        In the order given.

    Raises
    ------
    UsageError
        AppStream would not take it.
    """
    read = [_read(Application, each, f"application {at}") for at, each in enumerate(given, 1)]
    if len(read) > APPLICATIONS:
        raise UsageError(
            f"the catalogue has {len(read)} applications, and AppStream takes {APPLICATIONS}",
            "take some out",
        )
    if twice := _twice(each.name for each in read):
        raise UsageError(
            f"the name of an application stands twice: {', '.join(twice)}", "give each a name of its own"
        )
    return read


def checked_name(name: str) -> str:
    """Return the name of an image, if AppStream takes it.

    Parameters
    ----------
    name:
        Of an image that is to be.

    Raises
    ------
    UsageError
        It is too long, or begins with what AWS keeps for its own, or has a character that is not taken.
    """
    if len(name) > NAME_LENGTH:
        raise UsageError(
            f"{name} has {len(name)} characters; AppStream takes {NAME_LENGTH}",
            "shorten the names of project and image in kiln.toml",
        )
    if name.lower().startswith(RESERVED):
        raise UsageError(
            f"{name} begins with what AWS keeps for its own images: {', '.join(RESERVED)}",
            "rename the project in kiln.toml",
        )
    if not re.fullmatch(IMAGE_NAME, name):
        raise UsageError(f"AppStream takes no image of the name {name!r}", f"it must match {IMAGE_NAME}")
    return name


class Image(Section):
    """What an image builder becomes, for the role; kiln builder run has it from :class:`Appstream`."""

    name: str = Field(description="name of the image, unique in the account and region")
    display_name: DisplayName | None = Field(default=None, description="name of the image for people")
    description: Description | None = Field(default=None, description="what the image is for")
    latest_agent: bool = Field(default=False, description="whether it takes the newest agent at every start")
    tags: dict[
        Annotated[str, StringConstraints(pattern=r"^[\w .:/=+@-]+$", max_length=128)],
        Annotated[str, StringConstraints(pattern=r"^[\w .:/=+@-]*$", max_length=256)],
    ] = Field(default_factory=dict, max_length=50, description="tags of the image")


def image(given: Mapping[str, Any]) -> Image:
    """Read what an image builder is to become.

    Parameters
    ----------
    given:
        As :class:`Image` has it.

    Raises
    ------
    UsageError
        AppStream would not take it.
    """
    read = _read(Image, given, "the image")
    checked_name(read.name)
    if kept := [key for key in read.tags if key.lower().startswith("aws:")]:
        raise UsageError(f"the image's tag {kept[0]} is one that AWS keeps for itself", "rename it")
    return read


def sessions(given: Iterable[Mapping[str, Any]], seconds: int) -> dict[str, Any]:
    """Return what AppStream's ``config.json`` says of session scripts.

    Parameters
    ----------
    given:
        The scripts, as :class:`SessionScript` has them.
    seconds:
        How long the scripts of an event may take.

    Returns
    -------
    dict
        The whole file; an event without scripts is there, with none.

    Raises
    ------
    UsageError
        AppStream would not take it.
    """
    if not 0 < seconds <= WAITING_SECONDS:
        raise UsageError(
            f"session scripts may take {seconds} s, and AppStream stops them after {WAITING_SECONDS}",
            "what takes longer is a process of its own, which the script starts",
        )
    scripts = [_read(SessionScript, each, f"session script {at}") for at, each in enumerate(given, 1)]
    if twice := _twice(f"{each.event} as {each.context}" for each in scripts):
        raise UsageError(
            f"there are several session scripts at {', '.join(twice)}, and AppStream runs one",
            "let one script call the others",
        )
    return {
        f"Session{event.capitalize()}": {
            "executables": [
                {
                    "context": each.context,
                    "filename": each.filename,
                    "arguments": each.arguments,
                    "s3LogEnabled": each.s3_log,
                }
                for each in scripts
                if each.event == event
            ],
            "waitingTime": seconds,
        }
        for event in ("start", "termination")
    }


def _read(model: type[_Model], given: Mapping[str, Any], what: str) -> _Model:
    """Judge one table, and tell the first thing that is wrong with it."""
    try:
        return model.model_validate({key: value for key, value in given.items() if value not in (None, "")})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        field = model.model_fields.get(key)
        known = f"{key} is {field.description}" if field else f"keys: {', '.join(model.model_fields)}"
        raise UsageError(f"{what}, {key}: {first['msg']}", known) from None
