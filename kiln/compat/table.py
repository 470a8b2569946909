"""The table of what goes together, as strict models; ``table.toml`` beside this module holds the data."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

FILE = Path(__file__).with_name("table.toml")

Dotted = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)*$")]
"""Numbers between dots, as NVIDIA writes versions and compute capabilities."""

Flavour = Literal["open", "proprietary"]
"""NVIDIA's two kinds of kernel modules."""

Processor = Literal["amd64", "arm64"]
"""Debian's names for what an instance computes with."""

_CPU_SIZE = re.compile(r"nano|micro|small|medium|large|(\d+)?xlarge|metal(-\d+xl)?")


class Entry(BaseModel):
    """A line of the table: what it says, and who said it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    source: str = Field(description="key of [source]: the page that says so")


class Cuda(Entry):
    """What every minor version of a CUDA major needs."""

    driver: Dotted = Field(description="least driver")


class Toolkit(Entry):
    """A CUDA toolkit."""

    driver: Dotted = Field(description="the driver released with it, which compiles its PTX")


class Compute(Entry):
    """A compute capability."""

    architecture: str = Field(description="NVIDIA's name of the generation")
    toolkit: Dotted = Field(description="first toolkit that knows it; its driver is the least for it")
    last_branch: int | None = Field(default=None, description="last driver branch that drives it")
    modules: Flavour | None = Field(default=None, description="the flavour of modules that it needs")


class Gpu(Entry):
    """A model of GPU."""

    compute: Dotted = Field(description="its compute capability, a key of [compute]")


class Branch(Entry):
    """A branch of drivers. One of the two dates is known."""

    until: date | None = Field(default=None, description="last day of NVIDIA's support")
    ended_before: date | None = Field(default=None, description="day of a page that lists it among the ended")

    @model_validator(mode="after")
    def _one_date(self) -> Branch:
        if (self.until is None) == (self.ended_before is None):
            raise ValueError("a branch has either until or ended_before")
        return self


class Family(Entry):
    """An EC2 instance family with accelerators."""

    gpu: str | None = Field(default=None, description="key of [gpu]")
    sizes: dict[str, int] = Field(description="size → number of GPUs")
    nvswitch: list[str] = Field(default_factory=list, description="sizes whose GPUs NVSwitch joins")
    driver: Dotted | None = Field(default=None, description="least driver that AWS names")
    processor: Processor = Field(default="amd64", description="what it computes with")
    unusable: str | None = Field(default=None, description="why none of our images can use its GPU")

    @model_validator(mode="after")
    def _whole(self) -> Family:
        if (self.gpu is None) == (self.unusable is None):
            raise ValueError("a family has either a gpu or a reason why it is unusable")
        if unknown := set(self.nvswitch) - set(self.sizes):
            raise ValueError(f"nvswitch names sizes that are not there: {', '.join(sorted(unknown))}")
        return self


class Plain(Entry):
    """EC2 instance families without any GPU."""

    families: list[str] = Field(description="their names")


class Instance(BaseModel):
    """What an EC2 instance type has."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="the instance type")
    processor: Processor = Field(description="what it computes with")
    gpu: str | None = Field(description="model of its GPUs, null without any that CUDA drives")
    count: int = Field(description="number of its GPUs")
    compute: str | None = Field(description="compute capability of its GPU")
    driver: str | None = Field(description="least driver that AWS names")
    nvswitch: bool = Field(description="whether NVSwitch joins its GPUs")
    unusable: str | None = Field(description="why none of our images can use its GPU")

    def __str__(self) -> str:
        if self.gpu is None:
            return f"{self.name} (no GPU)"
        return f"{self.name} ({self.count} × {self.gpu}, compute {self.compute})"


class Table(BaseModel):
    """The whole table."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    source: dict[str, str] = Field(description="key → address of a page")
    cuda: dict[str, Cuda] = Field(description="CUDA major → what it needs")
    toolkit: dict[Dotted, Toolkit] = Field(description="CUDA toolkit → its driver")
    compute: dict[Dotted, Compute] = Field(description="compute capability → what drives it")
    gpu: dict[str, Gpu] = Field(description="model of GPU → its compute capability")
    branch: dict[str, Branch] = Field(description="driver branch → its support")
    family: dict[str, Family] = Field(description="instance family → its GPU")
    no_gpu: dict[Processor, Plain] = Field(description="processor → instance families without a GPU")

    @model_validator(mode="after")
    def _names_are_there(self) -> Table:
        """A key that another entry names must exist: a slip of the pen is not an unknown GPU."""
        entries: list[Entry] = [
            *self.cuda.values(), *self.toolkit.values(), *self.compute.values(), *self.gpu.values(),
            *self.branch.values(), *self.family.values(), *self.no_gpu.values(),
        ]  # fmt: skip
        named: tuple[tuple[str, set[str], object], ...] = (
            ("source", {entry.source for entry in entries}, self.source),
            ("toolkit", {one.toolkit for one in self.compute.values()}, self.toolkit),
            ("compute", {one.compute for one in self.gpu.values()}, self.compute),
            ("gpu", {one.gpu for one in self.family.values() if one.gpu}, self.gpu),
        )
        for what, wanted, known in named:
            if missing := wanted - set(known):  # type: ignore[call-overload]
                raise ValueError(f"[{what}] lacks {', '.join(sorted(missing))}")
        plain = [name for one in self.no_gpu.values() for name in one.families]
        if twice := {name for name in [*plain, *self.family] if [*plain, *self.family].count(name) > 1}:
            raise ValueError(f"families that are there twice: {', '.join(sorted(twice))}")
        return self

    def instance(self, name: str) -> Instance | None:
        """Return what an EC2 instance type has.

        Parameters
        ----------
        name:
            Such as ``g5.xlarge``.

        Returns
        -------
        Instance or None
            None where the table knows the family or the size not: nothing is assumed of it.
        """
        family, _, size = name.partition(".")
        if found := self.family.get(family):
            if size not in found.sizes:
                return None
            return Instance(
                name=name,
                processor=found.processor,
                gpu=found.gpu,
                count=found.sizes[size],
                compute=self.gpu[found.gpu].compute if found.gpu else None,
                driver=found.driver,
                nvswitch=size in found.nvswitch,
                unusable=found.unusable,
            )
        for processor, plain in self.no_gpu.items():
            if family in plain.families and _CPU_SIZE.fullmatch(size):
                return Instance(
                    name=name,
                    processor=processor,
                    gpu=None,
                    count=0,
                    compute=None,
                    driver=None,
                    nvswitch=False,
                    unusable=None,
                )
        return None


@cache
def load() -> Table:
    """Return the table of this checkout.

    Returns
    -------
    Table
        Read once.
    """
    return Table.model_validate(tomllib.loads(FILE.read_text(encoding="utf-8")))
