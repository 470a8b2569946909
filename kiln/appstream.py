"""What kiln.toml says of an AppStream image: its catalogue, how it is imported, its builder.

The limits are those of the service's own model (CreateImportedImage of AppStream's API, 2016-12-01) and of
the administration guide, "Image Assistant CLI Operations"; a test compares them with botocore's model.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from kiln import mistakes
from kiln.mistakes import Section

APPLICATIONS = 50
"""Most that a catalogue may have."""

RESERVED = ("aws", "appstream", "amazon")
"""What the name of an image may not begin with: AWS keeps these for its own."""

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
    parameters: (
        Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^[^\x00\r\n]+$")] | None
    ) = Field(default=None, description="its command line", examples=["--no-splash"])
    manifest: FilePath | None = Field(
        default=None,
        description="absolute path of a text file with the files to read ahead, one a line",
        examples=["C:\\Slicer\\prewarm.txt"],
    )


class Builder(Section):
    """``[image.NAME.appstream.builder]``: the image builder that the image is made on."""

    base: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,100}$")] = Field(
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
    builder: Builder | None = Field(default=None, description="its image builder; none for an imported image")

    @field_validator("applications", mode="after")
    @classmethod
    def _names_are_unique(cls, value: list[Application]) -> list[Application]:
        names = [application.name for application in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
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
