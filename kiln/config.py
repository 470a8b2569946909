"""kiln.toml as strict models; every mistake in it is told by its line."""

from __future__ import annotations

import os
import tomllib
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from kiln import compat, manifest, mistakes, paths
from kiln.appstream import Appstream, DisplayName, InstanceType, RoleArn
from kiln.errors import UsageError
from kiln.mistakes import Section

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=40)]
"""A name that is safe in file names, tags and host names."""

MODEL_NAME = r"^[A-Za-z0-9_]+$"


def _known_instance_type(name: str) -> str:
    if compat.load().instance(name) is None:
        raise ValueError(
            f"{name} is an unknown instance type, and nothing is assumed of it (kiln/compat/table.toml)"
        )
    return name


def _waivable(name: str) -> str:
    if name not in compat.WAIVABLE:
        raise ValueError(f"no check of that name can be waived: {', '.join(compat.WAIVABLE)} can")
    return name


class Project(Section):
    """``[project]``: whose images these are."""

    name: Name = Field(description="prefix of every name, tag and parameter", examples=["kiln"])
    owner: str = Field(min_length=1, description="team that answers for the images", examples=["imaging"])
    bucket: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")] | None = Field(
        default=None,
        description="S3 bucket of contract files, history and locks; every command of AWS needs it",
        examples=["kiln-records-111122223333"],
    )


Region = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
"""A region as AWS names it; whether it is enabled is asked of the account."""

AccountId = Annotated[str, StringConstraints(pattern=r"^\d{12}$")]


class Publish(Section):
    """``[image.NAME.publish]``: where an image goes, whose key it has, who may use it."""

    regions: list[Region] = Field(
        min_length=1,
        description="regions that get the image; the first is uploaded to, the others copy from it",
        examples=[["us-east-1", "eu-west-1"]],
    )
    share_with: list[AccountId] = Field(
        default_factory=list,
        description="accounts that may launch it; never all: an image is private",
        examples=[["222233334444"]],
    )
    encrypt: bool = Field(
        default=True,
        description="whether snapshots are encrypted; AppStream imports only unencrypted ones",
        examples=[False],
    )
    kms_key: str | dict[Region, str] | None = Field(
        default=None,
        description="customer key: one alias for every region, or an ARN by region; sharing needs one",
        examples=["alias/kiln"],
    )
    deprecate_after_days: int = Field(
        default=90, ge=1, le=3650, description="days until EC2 calls the image deprecated", examples=[90]
    )
    keep: int = Field(default=5, ge=1, le=1000, description="versions that kiln prune keeps", examples=[5])

    @model_validator(mode="after")
    def _a_key_for_what_is_shared(self) -> Publish:
        if len(set(self.regions)) != len(self.regions):
            raise ValueError("a region stands twice")
        if not self.encrypt and self.kms_key:
            raise ValueError("kms_key without encryption has no use")
        if self.share_with and self.encrypt and self.kms_key is None:
            raise mistakes.hinted(
                "share_with needs kms_key: what AWS's own key encrypts cannot be shared",
                'add kms_key = "alias/..." of a customer key, or encrypt = false',
            )
        if isinstance(self.kms_key, dict) and (missing := [r for r in self.regions if r not in self.kms_key]):
            raise ValueError(f"kms_key has no key for {', '.join(missing)}")
        return self


class _Target(Section):
    """What every target has."""

    image: Name = Field(description="image of this file that runs there", examples=["monai-label"])
    channel: Name = Field(description="channel that it follows", examples=["stable"])
    region: Region = Field(description="region of the target", examples=["us-east-1"])


Percent = Annotated[int, Field(ge=1, le=100)]


class GroupTarget(_Target):
    """``[target.NAME]`` with ``group``: an Auto Scaling group."""

    group: str = Field(min_length=1, max_length=255, description="name of the Auto Scaling group")
    min_healthy: int = Field(
        default=100, ge=0, le=100, description="percent of the group that stays healthy in a refresh"
    )
    max_healthy: int = Field(
        default=200,
        ge=100,
        le=200,
        description="percent of the group that may run in a refresh; 100 more than min_healthy at most",
    )
    checkpoints: list[Percent] = Field(
        default=[100],
        description="percent at which a refresh pauses; must end at 100, or AWS ends there",
        examples=[[20, 50, 100]],
    )
    checkpoint_minutes: int = Field(default=10, ge=0, le=2880, description="length of each pause")
    bake_minutes: int = Field(
        default=10, ge=0, le=2880, description="minutes for which alarms are watched after the last instance"
    )
    warmup_minutes: int = Field(
        default=15, ge=0, le=360, description="minutes that a new instance has until it counts as warm"
    )
    alarms: list[str] = Field(
        default_factory=list, max_length=10, description="CloudWatch alarms that roll a refresh back"
    )
    volume_initialization_mibps: int | None = Field(
        default=None, ge=100, le=300, description="rate at which EBS fills the root volume; AWS bills it"
    )
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="settings document of the instances, without its schema number",
        examples=[{"studies": "/mnt/studies/spleen"}],
    )

    @model_validator(mode="after")
    def _a_refresh_that_ends(self) -> GroupTarget:
        if not self.checkpoints or self.checkpoints[-1] != 100:
            raise mistakes.hinted(
                "checkpoints must end at 100: AWS ends a refresh at the last one, with the rest not replaced",
                "append 100",
            )
        if sorted(set(self.checkpoints)) != self.checkpoints:
            raise ValueError("checkpoints must rise")
        if self.max_healthy - self.min_healthy > 100:
            raise ValueError("max_healthy may be 100 more than min_healthy at most")
        if self.max_healthy == 100 and self.min_healthy == 100:
            raise ValueError("min_healthy and max_healthy of 100 leave no instance to replace")
        return self


class FleetTarget(_Target):
    """``[target.NAME]`` with ``fleet``: an AppStream fleet."""

    fleet: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,100}$")] = Field(
        description="name of the AppStream fleet", examples=["kiln-readers"]
    )
    stack: str | None = Field(
        default=None, description="AppStream stack that users open; it moves where a new fleet is needed"
    )
    instance_type: InstanceType | None = Field(
        default=None,
        description="AppStream instance type; the fleet's own where it is left out",
        examples=["Accelerated.g4dn.xlarge"],
    )
    display_name: DisplayName | None = Field(
        default=None, description="name of the fleet for people; changes live", examples=["Readers"]
    )
    capacity: int | None = Field(
        default=None, ge=0, le=1000, description="desired instances; left to scaling where it is left out"
    )
    idle_minutes: int | None = Field(
        default=None, ge=0, le=60, description="minutes without input until a user is let go; 0 never"
    )
    disconnect_minutes: int | None = Field(
        default=None, ge=1, le=6000, description="minutes that a session waits for a user who was cut off"
    )
    session_hours: int | None = Field(
        default=None, ge=1, le=96, description="longest session; changes only while the fleet is stopped"
    )
    view: Literal["APP", "DESKTOP"] | None = Field(
        default=None, description="what users see; changes only while the fleet is stopped"
    )
    role: RoleArn | None = Field(
        default=None, description="role of the instances; changes only while the fleet is stopped"
    )
    subnets: list[Annotated[str, StringConstraints(pattern=r"^subnet-[0-9a-f]{8,17}$")]] | None = Field(
        default=None, min_length=1, description="their subnets; change only while the fleet is stopped"
    )
    security_groups: list[Annotated[str, StringConstraints(pattern=r"^sg-[0-9a-f]{8,17}$")]] | None = Field(
        default=None,
        min_length=1,
        max_length=5,
        description="their security groups; change only while the fleet is stopped",
    )


class Image(Section):
    """``[image.NAME]``: what is baked into one image."""

    base: Literal["debian-12"] = Field(
        default="debian-12", description="distribution that the image starts from", examples=["debian-12"]
    )
    playbook: Path = Field(
        strict=False,
        description="playbook that makes the image; default ansible/playbooks/<NAME with _ for ->.yml",
        examples=["ansible/playbooks/monai_label.yml"],
    )
    template: Path = Field(
        strict=False,
        description="folder of the Packer template; default packer/<NAME>",
        examples=["packer/monai-label"],
    )
    app: Name | None = Field(
        default=None,
        description="MONAI Label sample app; none on an image without a server",
        examples=["radiology"],
    )
    models: list[Annotated[str, StringConstraints(pattern=MODEL_NAME)]] = Field(
        default_factory=list, description="models that the app serves", examples=[["segmentation_spleen"]]
    )
    weights: Literal["pinned", "random"] | None = Field(
        default=None,
        description="origin of the models' weights: pinned by URL and sha256, or random for demonstration",
        examples=["pinned"],
    )
    driver: Literal["debian", "nvidia_repository", "preinstalled"] | None = Field(
        default=None,
        description="where NVIDIA's driver comes from; none on an image without one",
        examples=["debian"],
    )
    instance_types: list[
        Annotated[
            str, StringConstraints(pattern=r"^[a-z0-9-]+\.[a-z0-9-]+$"), AfterValidator(_known_instance_type)
        ]
    ] = Field(
        default_factory=list,
        description="EC2 instance types that the image must suit",
        examples=[["g5.xlarge"]],
    )
    root_gb: int = Field(
        default=40,
        ge=1,
        le=16384,
        description="size of the root disk in GiB (2^30 bytes, as EBS counts), as a guest sees it",
        examples=[40],
    )
    publish: Publish | None = Field(
        default=None, description="where it goes on AWS; none for an image that stays on this machine"
    )
    appstream: Appstream | None = Field(
        default=None,
        description="what makes it an image of AppStream; none for one of EC2",
        examples=[{"import_role": "arn:aws:iam::111122223333:role/kiln-appstream-import"}],
    )

    @field_validator("playbook", "template", mode="after")
    @classmethod
    def _beside_kiln_toml(cls, value: Path, info: ValidationInfo) -> Path:
        folder: Path = (info.context or {}).get("folder", Path())
        path = (folder / value).resolve()
        if info.field_name == "playbook" and not path.is_file():
            raise ValueError(f"there is no file {path}")
        if info.field_name == "template" and not path.is_dir():
            raise ValueError(f"there is no folder {path}")
        return path

    @model_validator(mode="after")
    def _a_server_is_whole(self) -> Image:
        server = {"app": self.app, "models": self.models, "weights": self.weights}
        given = [key for key, value in server.items() if value]
        missing = [key for key in server if key not in given]
        if given and missing:
            raise mistakes.hinted(
                f"{' and '.join(given)} without {' and '.join(missing)}: a server needs all three",
                "add " + " and ".join(mistakes.line(key, type(self).model_fields[key]) for key in missing),
            )
        return self


def _kind(value: Any) -> str:
    """Which kind of target a table is; one that names neither is judged as a group and told what misses."""
    return "fleet" if isinstance(value, dict) and "fleet" in value and "group" not in value else "group"


Target = Annotated[
    Annotated[GroupTarget, Tag("group")] | Annotated[FleetTarget, Tag("fleet")], Discriminator(_kind)
]


class Waiver(Section):
    """``[[waiver]]``: a refused check that is accepted until a day."""

    check: Annotated[str, AfterValidator(_waivable)] = Field(
        description="name of the check", examples=["driver-support"]
    )
    reason: str = Field(
        min_length=10, description="why it is accepted", examples=["580 follows in the next release"]
    )
    until: date = Field(description="last day on which it counts", examples=[date(2027, 3, 31)])


class Config(Section):
    """The whole of kiln.toml."""

    project: Project = Field(description="whose images these are")
    image: dict[Name, Image] = Field(min_length=1, description="images by name")
    target: dict[Name, Target] = Field(
        default_factory=dict, description="what runs an image on AWS: groups and fleets, by name"
    )
    waiver: list[Waiver] = Field(
        default_factory=list, description="refused checks that are accepted for a while"
    )

    @model_validator(mode="after")
    def _targets_run_what_is_here(self) -> Config:
        for name, target in self.target.items():
            if target.image not in self.image:
                raise mistakes.hinted(
                    f"target {name} runs image {target.image!r}, which this file does not have",
                    mistakes.suggest(target.image, self.image, "images"),
                )
        return self

    @model_validator(mode="before")
    @classmethod
    def _default_places(cls, data: Any) -> Any:
        """Fill in the playbook and the template that follow from an image's name."""
        images = data.get("image") if isinstance(data, dict) else None
        if not isinstance(images, dict):
            return data
        filled = {
            name: {
                "playbook": f"ansible/playbooks/{name.replace('-', '_')}.yml",
                "template": f"packer/{name}",
                **table,
            }
            if isinstance(table, dict)
            else table
            for name, table in images.items()
        }
        return {**data, "image": filled}

    def select(self, name: str) -> Image:
        """Return an image by its name.

        Parameters
        ----------
        name:
            As in ``[image.NAME]``.

        Returns
        -------
        Image
            What ``[image.NAME]`` says.

        Raises
        ------
        UsageError
            There is no such image.
        """
        if name not in self.image:
            raise UsageError(f"kiln.toml has no image {name!r}", mistakes.suggest(name, self.image, "images"))
        return self.image[name]

    def aim(self, name: str) -> GroupTarget | FleetTarget:
        """Return a target by its name.

        Parameters
        ----------
        name:
            As in ``[target.NAME]``.

        Returns
        -------
        GroupTarget or FleetTarget
            What ``[target.NAME]`` says.

        Raises
        ------
        UsageError
            There is no such target.
        """
        if name not in self.target:
            raise UsageError(
                f"kiln.toml has no target {name!r}", mistakes.suggest(name, self.target, "targets")
            )
        return self.target[name]

    def records(self) -> str:
        """Return the bucket of the records, which every command of AWS needs.

        Returns
        -------
        str
            Its name.

        Raises
        ------
        UsageError
            kiln.toml names none.
        """
        if self.project.bucket is None:
            raise UsageError(
                "kiln.toml names no bucket for the records of AWS",
                'add bucket = "..." under [project]: an S3 bucket of the account, with versioning on',
            )
        return self.project.bucket

    def publication(self, name: str) -> Publish:
        """Return where an image goes on AWS.

        Parameters
        ----------
        name:
            As in ``[image.NAME]``.

        Returns
        -------
        Publish
            What ``[image.NAME.publish]`` says.

        Raises
        ------
        UsageError
            There is no such image, or it goes nowhere.
        """
        publish = self.select(name).publish
        if publish is None:
            raise UsageError(
                f"kiln.toml does not say where {name} goes on AWS",
                f'add [image.{name}.publish] with regions = ["..."]',
            )
        return publish

    def demand(self, name: str) -> manifest.Demand:
        """Return what an image's driver is judged against.

        Parameters
        ----------
        name:
            As in ``[image.NAME]``.

        Returns
        -------
        Demand
            Its instance types, and every waiver, those past their day too: the judge says so.

        Raises
        ------
        UsageError
            There is no such image.
        """
        waivers = [manifest.Waiver(**waiver.model_dump()) for waiver in self.waiver]
        return manifest.Demand(instance_types=self.select(name).instance_types, waivers=waivers)


def default_path() -> Path:
    """kiln.toml of the checkout; ``KILN_CONFIG`` names another.

    Returns
    -------
    Path
        The file; whether it is there is not looked at.
    """
    return Path(os.environ.get("KILN_CONFIG") or paths.ROOT / "kiln.toml")


def load(path: Path | None = None) -> Config:
    """Read kiln.toml.

    Parameters
    ----------
    path:
        The file, by default :func:`default_path`. Paths in it are relative to its folder.

    Returns
    -------
    Config
        With absolute paths.

    Raises
    ------
    UsageError
        It cannot be read, is no TOML, or says something that cannot be meant.
    """
    path = path or default_path()
    text = _read(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise mistakes.broken(path, text, str(error)) from None
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits, brackets nested a thousand deep: tomllib lets these through.
        what = mistakes.first_line(error)
        raise UsageError(f"{path}: this is no TOML: {what}", "look for a very long or deep value") from None
    try:
        return Config.model_validate(data, context={"folder": path.resolve().parent})
    except ValidationError as error:
        raise mistakes.refused(path, text, error, Config) from None


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except (OSError, ValueError) as error:
        # ValueError: a null byte in the name.
        what = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{path}: {what}", "name a readable file by --config or KILN_CONFIG") from None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        bad = f"byte {raw[error.start]:#04x} is not UTF-8"
        raise UsageError(f"{path}:{line}: {bad}", "save the file as UTF-8") from None
