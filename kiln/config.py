"""kiln.toml as strict models; every mistake in it is told by its line."""

from __future__ import annotations

import os
import tomllib
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from kiln import compat, manifest, mistakes, paths
from kiln.appstream import Appstream
from kiln.destinations import FleetTarget as FleetTarget
from kiln.destinations import GroupTarget as GroupTarget
from kiln.destinations import Publish as Publish
from kiln.destinations import Target
from kiln.errors import UsageError
from kiln.mistakes import Name, Section
from kiln.slicer import Slicer

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
    slicer: Slicer | None = Field(
        default=None,
        description="3D Slicer itself; none on a server's image, and none for a local bake of a stand-in",
        examples=[{"version": "5.10.0", "revision": "34045"}],
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
                    f"this file has no image {target.image!r}",
                    mistakes.suggest(target.image, self.image, "images"),
                    at=("target", name, "image"),
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
