"""kiln cost: what kiln.toml costs, a line each, by month and hour; and what a group costs, for a plan.

A month has 730 hours, as AWS's own calculator has it. Prices are on demand and without tax.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from kiln import config as settings
from kiln import manifest, paths
from kiln.config import Config, FleetTarget, GroupTarget, Image
from kiln.errors import Exit, KilnError
from launch.cloud import Cloud
from launch.prices import Book, Item, Price, Unknown
from launch.trouble import code, told

HOURS = Decimal(730)
"""Hours of a month."""

BUILDER_TYPE = "m6i.xlarge"
BUILDER_MIBPS = 125
"""The builder instance of packer/monai-label: its type, and its throughput above the free 125 MiB/s."""

BAKE_HOURS = Decimal(1)
PROOF_HOURS = Decimal("0.5")
IMAGE_BUILDER_HOURS = Decimal(3)
"""Assumed, and said so: no bake has run on AWS yet. A local bake tells its own length."""

UNCOUNTED = (
    "not counted: data transfer, requests, capacity units of balancers, keys, volume initialization,"
    " and what a stack holds beside (file system, NAT gateway, endpoints)"
)

Per = Literal["month", "bake", "use"]
"""What a line is for: what stands all month, one bake, or one unit of use (an hour streamed, a user)."""


@dataclass(frozen=True)
class Line:
    """One thing that costs money.

    Parameters
    ----------
    of:
        What of kiln.toml it belongs to, as in ``target annotators``.
    what:
        What it is, with its number.
    per:
        See :data:`Per`.
    quantity:
        Units of the price: hours, GB-months, MiB/s-months, users.
    price:
        Of one unit.
    """

    of: str
    what: str
    per: Per
    quantity: Decimal
    price: Price | Unknown

    @property
    def usd(self) -> Decimal | None:
        """Dollars by month, bake or use; None where the price could not be determined."""
        return None if isinstance(self.price, Unknown) else self.price.usd * self.quantity

    def as_json(self) -> dict[str, Any]:
        """Return the line for programs."""
        usd = self.usd
        known = self.price if isinstance(self.price, Price) else None
        return {
            "of": self.of,
            "what": self.what,
            "per": self.per,
            "quantity": float(self.quantity),
            "unit_price": None if known is None else float(known.usd),
            "usd": _rounded(usd),
            "usd_hourly": _rounded(usd / HOURS) if usd is not None and self.per == "month" else None,
            "source": None if known is None else known.source,
            "date": None if known is None else known.day.isoformat(),
            "undetermined": self.price.why if isinstance(self.price, Unknown) else None,
        }


def _rounded(usd: Decimal | None) -> float | None:
    return None if usd is None else round(float(usd), 4)


@dataclass
class Cost:
    """Lines and their sums.

    Parameters
    ----------
    lines:
        In the order in which they are shown.
    notes:
        What was assumed, and what is not counted.
    """

    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[Line]:
        """Lines whose price could not be determined."""
        return [line for line in self.lines if line.usd is None]

    def total(self, per: Per, of: str | None = None) -> Decimal | None:
        """Sum lines up.

        Parameters
        ----------
        per:
            Which lines.
        of:
            Of which part of kiln.toml; by default of all.

        Returns
        -------
        Decimal or None
            Dollars; None where a price of them could not be determined, since a part is no sum.
        """
        amounts = [line.usd for line in self.lines if line.per == per and of in (None, line.of)]
        return None if None in amounts else sum((each for each in amounts if each is not None), Decimal(0))

    @property
    def monthly(self) -> float | None:
        """Dollars a month for what stands all month; None where that could not be determined."""
        return _rounded(self.total("month"))

    @property
    def hourly(self) -> float | None:
        """The same by hour."""
        total = self.total("month")
        return None if total is None else _rounded(total / HOURS)

    def as_json(self) -> dict[str, Any]:
        """Return it for programs: sums, lines, notes."""
        return {
            "usd_monthly": self.monthly,
            "usd_hourly": self.hourly,
            "usd_per_bake": {
                line.of: _rounded(self.total("bake", line.of)) for line in self.lines if line.per == "bake"
            },
            "lines": [line.as_json() for line in self.lines],
            "undetermined": [f"{line.of}: {line.what}" for line in self.missing],
            "notes": self.notes,
        }

    def said(self) -> str:
        """Say the sum in a line, with the days of the prices behind it."""
        if self.missing:
            first = self.missing[0]
            assert isinstance(first.price, Unknown)
            return f"could not determine the cost of {first.what}: {first.price.why}"
        days = sorted({line.price.day for line in self.lines if isinstance(line.price, Price)})
        of = f", prices of {days[0]} to {days[-1]}" if days else ""
        return f"${self.monthly or 0:,.2f} a month, ${self.hourly or 0:,.4f} an hour{of}"


def group_cost(
    book: Book,
    region: str,
    counts: Mapping[str, int],
    root_gb: int,
    *,
    of: str = "group",
    stopped: int = 0,
) -> Cost:
    """Reckon what instances of a group and their root volumes cost.

    Parameters
    ----------
    book:
        Prices.
    region:
        Of the group.
    counts:
        Instance type → number of running instances.
    root_gb:
        Size of a root volume, GiB.
    of:
        Whose they are, for the lines.
    stopped:
        Stopped instances of a warm pool: only their volumes cost.

    Returns
    -------
    Cost
        By month; a price that could not be determined makes the sums None, and is said.
    """
    lines = [
        Line(
            of,
            f"{count} × {kind}",
            "month",
            count * HOURS,
            book.find(Item("instance", region, kind)),
        )
        for kind, count in sorted(counts.items())
        if count
    ]
    volumes = sum(counts.values()) + stopped
    if volumes:
        price = book.find(Item("volume", region, "gp3"))
        lines.append(
            Line(
                of, f"{volumes} × root volume, {root_gb} GiB gp3", "month", Decimal(volumes * root_gb), price
            )
        )
    return Cost(lines)


class _Reckoning:
    """Goes through kiln.toml; asks AWS how large groups and fleets are, where it may."""

    def __init__(self, loaded: Config, book: Book, cloud: Cloud | None) -> None:
        self.config = loaded
        self.book = book
        self.cloud = cloud
        self.cost = Cost()
        self._balancers: set[str] = set()

    def all(self) -> Cost:
        for name, image in self.config.image.items():
            self._image(name, image)
        for name, target in self.config.target.items():
            if isinstance(target, GroupTarget):
                self._group(name, target)
            else:
                self._fleet(name, target)
        self.cost.notes.append(UNCOUNTED)
        return self.cost

    def _add(self, of: str, what: str, per: Per, quantity: Decimal, item: Item) -> None:
        self.cost.lines.append(Line(of, what, per, quantity, self.book.find(item)))

    def _image(self, name: str, image: Image) -> None:
        publish = image.publish
        if publish is None:
            return
        of, baked = f"image {name}", _baked(name)
        stored = Decimal(image.root_gb) if baked is None else Decimal(baked.root.bytes) / 2**30
        if baked is None:
            self.cost.notes.append(
                f"{of}: no version here tells what a snapshot holds; {image.root_gb} GiB at most were taken"
            )
        for region in publish.regions:
            what = f"{publish.keep} × snapshot of {stored:.1f} GiB in {region}"
            self._add(of, what, "month", publish.keep * stored, Item("snapshot", region, "standard"))
        fleets = [each for each in self.config.target.values() if each.image == name]
        streamed = [each for each in fleets if isinstance(each, FleetTarget)]
        if streamed:
            self._built(of, streamed[0])
        else:
            self._bake(of, image, publish.regions[0], baked)

    def _bake(self, of: str, image: Image, region: str, baked: manifest.Manifest | None) -> None:
        hours = BAKE_HOURS
        if baked is not None:
            hours = round(Decimal(sum(baked.seconds.values())) / 3600, 2)
        else:
            self.cost.notes.append(f"{of}: a bake of {hours} h is assumed")
        self._add(
            of, f"builder {BUILDER_TYPE}, {hours} h", "bake", hours, Item("instance", region, BUILDER_TYPE)
        )
        months = hours / HOURS
        self._add(
            of,
            f"its volume, {image.root_gb} GiB gp3",
            "bake",
            image.root_gb * months,
            Item("volume", region, "gp3"),
        )
        self._add(
            of,
            f"its throughput, {BUILDER_MIBPS} MiB/s more",
            "bake",
            BUILDER_MIBPS * months,
            Item("throughput", region, "gp3"),
        )
        if image.instance_types:
            kind = image.instance_types[0]
            what = f"kiln prove --ami on {kind}, {PROOF_HOURS} h"
            self._add(of, what, "bake", PROOF_HOURS, Item("instance", region, kind))

    def _built(self, of: str, target: FleetTarget) -> None:
        """An image that is made on AppStream's image builder."""
        if target.instance_type is None:
            return
        self.cost.notes.append(f"{of}: {IMAGE_BUILDER_HOURS} h of an image builder are assumed")
        self._add(
            of,
            f"image builder {target.instance_type}, {IMAGE_BUILDER_HOURS} h",
            "bake",
            IMAGE_BUILDER_HOURS,
            Item("builder", target.region, target.instance_type),
        )

    def _group(self, name: str, target: GroupTarget) -> None:
        of, image = f"target {name}", self.config.image[target.image]
        live = self._live_group(target)
        kinds = image.instance_types
        if live is None:
            self.cost.notes.append(f"{of}: the size of {target.group} is not known; one instance was taken")
            live = {"DesiredCapacity": 1, "Instances": []}
        counts = Counter(each["InstanceType"] for each in live["Instances"])
        wanted = max(0, live["DesiredCapacity"] - counts.total())
        if wanted and not kinds:
            raise KilnError(
                f"{of}: could not determine the instance type of {target.group}",
                f"add instance_types to [image.{target.image}]",
            )
        if wanted:
            counts[kinds[0]] += wanted
        pool = live.get("WarmPoolSize") or 0
        state = (live.get("WarmPoolConfiguration") or {}).get("PoolState", "Stopped")
        if pool and state == "Running" and kinds:
            counts[kinds[0]] += pool
            pool = 0
        self.cost.lines += group_cost(
            self.book, target.region, counts, image.root_gb, of=of, stopped=pool
        ).lines
        for balancer in self._live_balancers(target.region, live.get("TargetGroupARNs") or []):
            self._add(
                of,
                f"load balancer {balancer}",
                "month",
                HOURS,
                Item("balancer", target.region, "application"),
            )

    def _live_group(self, target: GroupTarget) -> dict[str, Any] | None:
        if self.cloud is None:
            return None
        with told(f"reading the group {target.group}"):
            found: list[dict[str, Any]] = self.cloud.client(
                "autoscaling", target.region
            ).describe_auto_scaling_groups(AutoScalingGroupNames=[target.group])["AutoScalingGroups"]
        return found[0] if found else None

    def _live_balancers(self, region: str, target_groups: list[str]) -> Iterable[str]:
        """Names of application load balancers that no line has yet."""
        if self.cloud is None or not target_groups:
            return []
        client = self.cloud.client("elbv2", region)
        with told("reading the load balancers"):
            groups = client.describe_target_groups(TargetGroupArns=target_groups)["TargetGroups"]
            arns = sorted({arn for group in groups for arn in group["LoadBalancerArns"]} - self._balancers)
            if not arns:
                return []
            found = client.describe_load_balancers(LoadBalancerArns=arns)["LoadBalancers"]
        self._balancers |= set(arns)
        return [each["LoadBalancerName"] for each in found if each["Type"] == "application"]

    def _fleet(self, name: str, target: FleetTarget) -> None:
        of, region = f"target {name}", target.region
        live = self._live_fleet(target) or {}
        kind = live.get("InstanceType") or target.instance_type
        if not live:
            self.cost.notes.append(f"{of}: the size of {target.fleet} is not known; one instance was taken")
        count = live.get("ComputeCapacityStatus", {}).get("Desired", 1)
        if kind is None:
            raise KilnError(
                f"{of}: could not determine the instance type of {target.fleet}",
                f"add instance_type to [target.{name}], or sign in: the fleet knows it",
            )
        streaming = Item("fleet", region, kind)
        if live.get("FleetType", "ALWAYS_ON") == "ON_DEMAND":
            self._add(of, f"{count} × stopped", "month", count * HOURS, Item("stopped", region, "any"))
            self._add(of, f"an hour streamed on {kind}", "use", Decimal(1), streaming)
        else:
            self._add(of, f"{count} × {kind}", "month", count * HOURS, streaming)
        self._add(of, "a user in a month", "use", Decimal(1), Item("user", region, "windows"))

    def _live_fleet(self, target: FleetTarget) -> dict[str, Any] | None:
        if self.cloud is None:
            return None
        with told(f"reading the fleet {target.fleet}"):
            try:
                answer = self.cloud.client("appstream", target.region).describe_fleets(Names=[target.fleet])
            except Exception as error:
                if code(error) == "ResourceNotFoundException":
                    return None
                raise
        fleets: list[dict[str, Any]] = answer["Fleets"]
        return fleets[0] if fleets else None


def _baked(image: str) -> manifest.Manifest | None:
    """Return the manifest of the latest proven version here, if there is one."""
    path = paths.build_dir() / image / "latest" / "manifest.json"
    try:
        return manifest.Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def reckon(loaded: Config, book: Book, cloud: Cloud | None) -> Cost:
    """Reckon what kiln.toml costs.

    Parameters
    ----------
    loaded:
        What it says.
    book:
        Prices.
    cloud:
        Who tells how large groups and fleets are; None asks nobody, and takes one instance each.

    Returns
    -------
    Cost
        A line for each thing.

    Raises
    ------
    KilnError
        AWS was not reached, or a target tells no instance type.
    """
    return _Reckoning(loaded, book, cloud).all()


def run(
    *, as_json: bool = False, offline: bool = False, profile: str | None = None, config: Path | None = None
) -> int:
    """Print what kiln.toml costs.

    Parameters
    ----------
    as_json:
        For programs.
    offline:
        By the dated table and without AWS.
    profile, config:
        As on the command line.

    Returns
    -------
    int
        DONE.

    Raises
    ------
    KilnError
        A price could not be determined; the others are printed before.
    UsageError
        kiln.toml cannot be meant.
    """
    loaded = settings.load(config)
    cloud, notes = None, []
    if not offline:
        try:
            cloud = Cloud(_region(loaded), f"cost-{secrets.token_hex(4)}", profile)
            _ = cloud.identity
        except KilnError as error:
            cloud = None
            notes.append(f"AWS was not asked ({error.what}): sizes and prices are not live")
    book = Book(cloud)
    cost = reckon(loaded, book, cloud)
    cost.notes += notes
    if cloud is not None and book.unreached:
        cost.notes.append(f"the Price List API did not answer ({book.unreached}): the dated table was taken")
    console = Console(highlight=False)
    if as_json:
        console.print_json(data=cost.as_json())
    else:
        _show(cost, console)
    if missing := cost.missing:
        first = missing[0]
        assert isinstance(first.price, Unknown)
        raise KilnError(
            f"could not determine {len(missing)} of {len(cost.lines)} prices, first"
            f" {first.of}, {first.what}: {first.price.why}",
            "let the role call pricing:GetProducts, or add the price to launch/prices.toml with its source",
        )
    return Exit.DONE


def _region(loaded: Config) -> str:
    """Any region of kiln.toml: who we are is the same in all."""
    regions = [region for image in loaded.image.values() if image.publish for region in image.publish.regions]
    regions += [target.region for target in loaded.target.values()]
    return regions[0] if regions else "us-east-1"


_TITLES: Mapping[Per, str] = {
    "month": "every month",
    "bake": "each bake on AWS",
    "use": "by use",
}


def _show(cost: Cost, console: Console) -> None:
    for per, title in _TITLES.items():
        lines = [line for line in cost.lines if line.per == per]
        if not lines:
            continue
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for column in ("of", "what"):
            table.add_column(column, overflow="fold")
        for column in ("USD", "an hour", "price", "of the day"):
            table.add_column(column, justify="right")
        for line in lines:
            table.add_row(*_cells(line))
        for of in [None] if per == "month" else dict.fromkeys(line.of for line in lines):
            if per != "use":
                table.add_row(of or "", "[bold]together[/bold]", *_sum(cost.total(per, of), per))
        console.print(table)
    sources = sorted({f"{line.price.source} ({line.price.day})" for line in cost.lines if _known(line)})
    for note in [*cost.notes, *(f"prices: {each}" for each in sources)]:
        console.print(f"note: {note}", style="dim", markup=False, soft_wrap=True)


def _sum(total: Decimal | None, per: Per) -> tuple[str, ...]:
    if total is None:
        return ("could not determine",)
    return f"{total:,.2f}", f"{total / HOURS:,.4f}" if per == "month" else ""


def _known(line: Line) -> bool:
    return isinstance(line.price, Price)


def _cells(line: Line) -> tuple[str, ...]:
    usd = line.usd
    if usd is None or isinstance(line.price, Unknown):
        return line.of, line.what, "could not determine"
    hourly = f"{usd / HOURS:,.4f}" if line.per == "month" else ""
    return line.of, line.what, f"{usd:,.2f}", hourly, f"{line.price.usd.normalize():f}", str(line.price.day)
