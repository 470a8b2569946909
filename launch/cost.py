"""kiln cost: what kiln.toml costs, a line each, by month and hour, and each bake."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from rich.console import Console
from rich.table import Table

from kiln import config as settings
from kiln.config import Config
from kiln.errors import Exit, KilnError
from launch.cloud import Cloud
from launch.cost_lines import HOURS, Cost, Line, Per, group_cost
from launch.prices import Book, Price, Unknown
from launch.reckoning import reckon

__all__ = ["Cost", "Line", "group_cost", "reckon", "run"]


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
            table.add_column(column, justify="right", no_wrap=True)
        for line in lines:
            table.add_row(*_cells(line))
        for of in [None] if per == "month" else dict.fromkeys(line.of for line in lines):
            if per != "use":
                table.add_row(of or "", "[bold]together[/bold]", *_sum(cost.total(per, of), per))
        console.print(table)
    known = [line.price for line in cost.lines if isinstance(line.price, Price)]
    sources = sorted({f"{price.source} ({price.day})" for price in known})
    for note in [*cost.notes, *(f"prices: {each}" for each in sources)]:
        console.print(f"note: {note}", style="dim", markup=False, soft_wrap=True)


def _sum(total: Decimal | None, per: Per) -> tuple[str, ...]:
    if total is None:
        return ("could not determine",)
    return f"{total:,.2f}", f"{total / HOURS:,.4f}" if per == "month" else ""


def _cells(line: Line) -> tuple[str, ...]:
    usd = line.usd
    if usd is None or isinstance(line.price, Unknown):
        return line.of, line.what, "could not determine"
    hourly = f"{usd / HOURS:,.4f}" if line.per == "month" else ""
    return line.of, line.what, f"{usd:,.2f}", hourly, f"{line.price.usd.normalize():f}", str(line.price.day)
