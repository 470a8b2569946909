"""What AWS asks for a thing: by its Price List API where that answers, else by the dated table beside this.

A price that neither knows is :class:`Unknown`, with the reason. It is never taken for 0.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kiln.errors import KilnError
from launch.cloud import Cloud
from launch.trouble import told

FILE = Path(__file__).with_name("prices.toml")

API_REGION = "us-east-1"
"""The Price List API has endpoints in a few regions only, each of which knows all prices (AWS Billing user
guide, Price List Query API)."""

Kind = Literal[
    "instance", "volume", "throughput", "snapshot", "balancer", "fleet", "builder", "stopped", "user"
]
"""What can be priced; a key of the table, and of :data:`QUESTIONS`."""


class Item(NamedTuple):
    """A thing with a price: what it is, where, and which (an instance type, a volume type)."""

    kind: Kind
    region: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} in {self.region}"


@dataclass(frozen=True)
class Price:
    """A price, and who said it when.

    Parameters
    ----------
    usd:
        Dollars for one hour of an instance, balancer or fleet; for one month of a GB, MiB/s or user.
    source:
        Who says so.
    day:
        Of the price, where the source gives one; else the day on which it was read.
    """

    usd: Decimal
    source: str
    day: date


@dataclass(frozen=True)
class Unknown:
    """A price that could not be determined.

    Parameters
    ----------
    why:
        The reason, as after a colon.
    """

    why: str


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Entry):
    """A page or file of prices."""

    said: str = Field(description="whose word it is")
    url: str = Field(description="where it can be looked up")
    published: date | None = Field(default=None, description="day that the source gives")
    read: date | None = Field(default=None, description="day on which it was read, where it gives none")

    @model_validator(mode="after")
    def _one_day(self) -> Source:
        if (self.published is None) == (self.read is None):
            raise ValueError("a source has either published or read")
        return self

    @property
    def day(self) -> date:
        """The one that there is."""
        return self.published or self.read or date.min


class Row(_Entry):
    """A price of the table."""

    usd: Decimal = Field(gt=0, description="dollars, as text: no binary fraction")
    source: str = Field(description="key of [source]")


Rows = dict[str, dict[str, Row]]
"""Region → name → price."""


class Table(_Entry):
    """``prices.toml``."""

    source: dict[str, Source]
    instance: Rows
    volume: Rows
    throughput: Rows
    snapshot: Rows
    balancer: Rows
    fleet: Rows = Field(default_factory=dict)
    builder: Rows = Field(default_factory=dict)
    stopped: Rows
    user: Rows

    @model_validator(mode="after")
    def _sources_are_here(self) -> Table:
        for kind in get_args(Kind):
            for region, rows in getattr(self, kind).items():
                for name, row in rows.items():
                    if row.source not in self.source:
                        raise ValueError(f"{kind} {name} in {region} names an unknown source {row.source!r}")
        return self

    def find(self, item: Item) -> Price | Unknown:
        """Return the price of a thing, as the table has it.

        Parameters
        ----------
        item:
            The thing.
        """
        row: Row | None = getattr(self, item.kind).get(item.region, {}).get(item.name)
        if row is None:
            return Unknown("launch/prices.toml has none")
        source = self.source[row.source]
        return Price(row.usd, source.said, source.day)


@cache
def table() -> Table:
    """Return the table in the repository, read once."""
    return Table.model_validate(tomllib.loads(FILE.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Question:
    """How the Price List API is asked for a kind of thing.

    Parameters
    ----------
    service:
        Its ServiceCode.
    attributes:
        What the product must have; ``{name}`` stands for the item's name.
    usage:
        Pattern for the usage type without its region, where products differ in nothing else.
    """

    service: str
    attributes: Mapping[str, str]
    usage: str = ".*"


QUESTIONS: Mapping[Kind, Question] = {
    "instance": Question(
        "AmazonEC2",
        {
            "instanceType": "{name}",
            "operatingSystem": "Linux",
            "tenancy": "Shared",
            "preInstalledSw": "NA",
            "capacitystatus": "Used",
        },
    ),
    "volume": Question("AmazonEC2", {"productFamily": "Storage", "volumeApiName": "{name}"}),
    "throughput": Question(
        "AmazonEC2", {"productFamily": "Provisioned Throughput", "volumeApiName": "{name}"}
    ),
    "snapshot": Question("AmazonEC2", {"productFamily": "Storage Snapshot"}, "EBS:SnapshotUsage"),
    "balancer": Question("AWSELB", {"productFamily": "Load Balancer-Application"}, "LoadBalancerUsage"),
    "fleet": Question(
        "AmazonAppStream",
        {"instanceType": "{name}", "instanceFunction": "Fleet", "operatingSystem": "Windows"},
    ),
    "builder": Question(
        "AmazonAppStream",
        {"instanceType": "{name}", "instanceFunction": "ImageBuilder", "operatingSystem": "Windows"},
    ),
    "stopped": Question("AmazonAppStream", {"instanceFunction": "StoppedFleetInstance"}),
    "user": Question("AmazonAppStream", {"productFamily": "User Fees"}, "(?!.*Multi-Session).*"),
}
"""The attributes are those of AWS's price lists (Price List Query API, GetAttributeValues)."""

_REGION = r"^(?:(?:EU|[A-Z]{3,4}[0-9])-)?"
"""Usage types begin with a short name of the region, and in us-east-1 with none. Local zones, Outposts and
time-share have prefixes of other forms: their prices are not ours."""

_SCALE = {"GiBps-mo": Decimal(1) / 1024}
"""Units of the API that are not ours: ours is the MiB/s, as on EBS's page."""


class Book:
    """Prices, each asked for once.

    Parameters
    ----------
    cloud:
        Whose credentials ask the Price List API; None asks nobody, and takes the table.

    Attributes
    ----------
    unreached:
        Why the API was not reached, empty as long as it answers. It is not asked again after that.
    """

    def __init__(self, cloud: Cloud | None) -> None:
        self._cloud = cloud
        self._known: dict[Item, Price | Unknown] = {}
        self.unreached = "" if cloud else "not asked (--offline)"

    def find(self, item: Item) -> Price | Unknown:
        """Return a price.

        Parameters
        ----------
        item:
            The thing.

        Returns
        -------
        Price or Unknown
            The API's, else the table's; with both reasons where neither has one.
        """
        if item not in self._known:
            self._known[item] = self._look(item)
        return self._known[item]

    def _look(self, item: Item) -> Price | Unknown:
        asked = self._ask(item)
        if isinstance(asked, Price):
            return asked
        listed = table().find(item)
        return listed if isinstance(listed, Price) else Unknown(f"{asked.why}; {listed.why}")

    def _ask(self, item: Item) -> Price | Unknown:
        if self._cloud is None or self.unreached:
            return Unknown("the Price List API does not answer")
        try:
            with told("asking for prices"):
                found = {price for product in self._products(item) for price in _prices(product)}
        except KilnError as error:
            self.unreached = error.what
            return Unknown("the Price List API does not answer")
        if len(found) != 1:
            return Unknown(f"the Price List API has {len(found) or 'no'} prices for it")
        return found.pop()

    def _products(self, item: Item) -> Iterator[dict[str, Any]]:
        assert self._cloud is not None
        question = QUESTIONS[item.kind]
        wanted = {"regionCode": item.region} | {
            name: value.format(name=item.name) for name, value in question.attributes.items()
        }
        pages = self._cloud.client("pricing", API_REGION).get_paginator("get_products")
        answers = pages.paginate(
            ServiceCode=question.service,
            FormatVersion="aws_v1",
            Filters=[{"Type": "TERM_MATCH", "Field": key, "Value": value} for key, value in wanted.items()],
        )
        for answer in answers:
            for text in answer["PriceList"]:
                product = json.loads(text)
                usage = product["product"]["attributes"].get("usagetype", "")
                if re.fullmatch(_REGION + question.usage, usage):
                    yield product


def _prices(product: dict[str, Any]) -> Iterator[Price]:
    """Give the prices on demand of a product; the steps of a volume discount are several."""
    day = datetime.fromisoformat(product["publicationDate"]).astimezone(UTC).date()
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            try:
                usd = Decimal(dimension["pricePerUnit"]["USD"])
            except (KeyError, InvalidOperation):
                continue  # a price list of China is in another currency
            if usd > 0:
                usd *= _SCALE.get(dimension.get("unit", ""), Decimal(1))
                yield Price(usd, "AWS Price List API", day)
