"""What kiln.toml says of AWS: where an image is published, and the targets that run one."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from kiln import mistakes
from kiln.appstream import DisplayName, InstanceType, RoleArn
from kiln.mistakes import Name, Section

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
        default=90,
        ge=1,
        le=3650,
        description="days until EC2 calls the image deprecated",
        examples=[90],
    )
    keep: int = Field(default=5, ge=1, le=1000, description="versions that kiln prune keeps", examples=[5])

    @model_validator(mode="after")
    def _a_key_for_what_is_shared(self) -> Publish:
        if len(set(self.regions)) != len(self.regions):
            raise mistakes.hinted("a region stands twice", "name each region once", at=("regions",))
        if not self.encrypt and self.kms_key:
            raise mistakes.hinted(
                "kms_key without encryption has no use", "take one of the two away", at=("kms_key",)
            )
        if self.share_with and self.encrypt and self.kms_key is None:
            raise mistakes.hinted(
                "share_with needs kms_key: what AWS's own key encrypts cannot be shared",
                'add kms_key = "alias/..." of a customer key, or encrypt = false',
            )
        if isinstance(self.kms_key, dict) and (missing := [r for r in self.regions if r not in self.kms_key]):
            raise mistakes.hinted(
                f"it has no key for {' and '.join(missing)}",
                "give each of the regions a key, or one alias for all of them",
                at=("kms_key",),
            )
        return self


class _Target(Section):
    """What every target has."""

    image: Name = Field(description="image of this file that runs there", examples=["monai-label"])
    channel: Name = Field(description="channel that it follows", examples=["stable"])
    region: Region = Field(description="region of the target", examples=["us-east-1"])


Percent = Annotated[int, Field(ge=1, le=100)]


class GroupTarget(_Target):
    """``[target.NAME]`` with ``group``: an Auto Scaling group."""

    group: str = Field(
        min_length=1,
        max_length=255,
        description="name of the Auto Scaling group",
        examples=["kiln-annotators"],
    )
    min_healthy: int = Field(
        default=100,
        ge=0,
        le=100,
        description="percent of the group that stays healthy in a refresh",
        examples=[100],
    )
    max_healthy: int = Field(
        default=200,
        ge=100,
        le=200,
        description="percent of the group that may run in a refresh; 100 more than min_healthy at most",
        examples=[200],
    )
    checkpoints: list[Percent] = Field(
        default=[100],
        description="percent at which a refresh pauses; must end at 100, or AWS ends there",
        examples=[[20, 50, 100]],
    )
    checkpoint_minutes: int = Field(
        default=10,
        ge=0,
        le=2880,
        description="length of each pause",
        examples=[10],
    )
    bake_minutes: int = Field(
        default=10,
        ge=0,
        le=2880,
        description="minutes for which alarms are watched after the last instance",
        examples=[10],
    )
    warmup_minutes: int = Field(
        default=15,
        ge=0,
        le=360,
        description="minutes that a new instance has until it counts as warm",
        examples=[15],
    )
    alarms: list[str] = Field(
        default_factory=list,
        max_length=10,
        description="CloudWatch alarms that roll a refresh back",
        examples=[["kiln-annotators-5xx"]],
    )
    volume_initialization_mibps: int | None = Field(
        default=None,
        ge=100,
        le=300,
        description="rate at which EBS fills the root volume; AWS bills it",
        examples=[300],
    )
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="settings document of the instances, without its schema number",
        examples=[{"studies": "/mnt/studies/spleen"}],
    )

    @model_validator(mode="before")
    @classmethod
    def _one_kind(cls, data: Any) -> Any:
        """Tell a table that is both kinds of target, or neither and with nothing misspelt."""
        if isinstance(data, dict) and "fleet" in data and "group" in data:
            raise mistakes.hinted(
                "a target is a group or a fleet, and both stand here",
                "take one away; a second target has a table of its own",
                at=("fleet",),
            )
        if isinstance(data, dict) and "group" not in data and data.keys() <= cls.model_fields.keys():
            raise mistakes.hinted(
                "it names no group and no fleet",
                'add group = "..." for an Auto Scaling group, or fleet = "..." for an AppStream fleet',
            )
        return data

    @model_validator(mode="after")
    def _a_refresh_that_ends(self) -> GroupTarget:
        if not self.checkpoints or self.checkpoints[-1] != 100:
            raise mistakes.hinted(
                "checkpoints must end at 100: AWS ends a refresh at the last one, with the rest not replaced",
                "append 100",
                at=("checkpoints",),
            )
        if sorted(set(self.checkpoints)) != self.checkpoints:
            raise mistakes.hinted(
                "checkpoints must rise", f"write {sorted(set(self.checkpoints))}", at=("checkpoints",)
            )
        if self.max_healthy - self.min_healthy > 100:
            raise mistakes.hinted(
                f"max_healthy may be 100 more than min_healthy at most, as AWS has it, and is "
                f"{self.max_healthy - self.min_healthy} more",
                f"set max_healthy = {self.min_healthy + 100}, or raise min_healthy",
                at=("max_healthy" if "max_healthy" in self.model_fields_set else "min_healthy",),
            )
        if self.max_healthy == 100 and self.min_healthy == 100:
            raise mistakes.hinted(
                "min_healthy and max_healthy of 100 leave no instance to replace",
                "raise max_healthy to launch before terminating, or lower min_healthy",
                at=("max_healthy",),
            )
        return self


class FleetTarget(_Target):
    """``[target.NAME]`` with ``fleet``: an AppStream fleet."""

    fleet: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,100}$")] = Field(
        description="name of the AppStream fleet",
        examples=["kiln-readers"],
    )
    stack: str | None = Field(
        default=None,
        description="AppStream stack that users open; it moves where a new fleet is needed",
        examples=["kiln-readers"],
    )
    instance_type: InstanceType | None = Field(
        default=None,
        description="AppStream instance type; the fleet's own where it is left out",
        examples=["Accelerated.g4dn.xlarge"],
    )
    display_name: DisplayName | None = Field(
        default=None,
        description="name of the fleet for people; changes live",
        examples=["Readers"],
    )
    capacity: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="desired instances; left to scaling where it is left out",
        examples=[2],
    )
    idle_minutes: int | None = Field(
        default=None,
        ge=0,
        le=60,
        description="minutes without input until a user is let go; 0 never",
        examples=[15],
    )
    disconnect_minutes: int | None = Field(
        default=None,
        ge=1,
        le=6000,
        description="minutes that a session waits for a user who was cut off",
        examples=[15],
    )
    session_hours: int | None = Field(
        default=None,
        ge=1,
        le=96,
        description="longest session; changes only while the fleet is stopped",
        examples=[10],
    )
    view: Literal["APP", "DESKTOP"] | None = Field(
        default=None,
        description="what users see; changes only while the fleet is stopped",
        examples=["APP"],
    )
    role: RoleArn | None = Field(
        default=None,
        description="role of the instances; changes only while the fleet is stopped",
        examples=["arn:aws:iam::111122223333:role/kiln-readers"],
    )
    subnets: list[Annotated[str, StringConstraints(pattern=r"^subnet-[0-9a-f]{8,17}$")]] | None = Field(
        default=None,
        min_length=1,
        description="their subnets; change only while the fleet is stopped",
        examples=[["subnet-0123456789abcdef0"]],
    )
    security_groups: list[Annotated[str, StringConstraints(pattern=r"^sg-[0-9a-f]{8,17}$")]] | None = Field(
        default=None,
        min_length=1,
        max_length=5,
        description="their security groups; change only while the fleet is stopped",
        examples=[["sg-0123456789abcdef0"]],
    )


def _kind(value: Any) -> str:
    """Which kind of target a table is; one that names neither is a group, unless it has a fleet's keys."""
    if isinstance(value, FleetTarget):
        return "fleet"
    if not isinstance(value, dict) or "group" in value:
        return "group"
    only = FleetTarget.model_fields.keys() - GroupTarget.model_fields.keys()
    meant = value.keys() & only or difflib.get_close_matches("fleet", map(str, value), n=1)
    return "fleet" if meant else "group"


Target = Annotated[
    Annotated[GroupTarget, Tag("group")] | Annotated[FleetTarget, Tag("fleet")], Discriminator(_kind)
]
