"""What things cost: lines, their sums by month and hour, and what a group costs, for a plan.

A month has 730 hours, as AWS's own calculator has it. Prices are on demand and without tax.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from launch.prices import Book, Item, Price, Unknown

HOURS = Decimal(730)
"""Hours of a month."""

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
