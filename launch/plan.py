"""What a command would change, before it changes anything: steps, the requests of each, refusals, notes.

Every command of this side reads what is, makes a :class:`Plan`, shows it, and only then executes it. Since a
plan is made from what is, a run that was killed is gone on with by running the command again: what is done
is not planned again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rich.console import Console
from rich.markup import escape


class Request(NamedTuple):
    """A request that changes something: service as boto3 names it, operation as its model does, region."""

    service: str
    operation: str
    region: str

    def __str__(self) -> str:
        return f"{self.service}:{self.operation} in {self.region}"


def requests(service: str, region: str, *operations: str) -> tuple[Request, ...]:
    """Return several requests of one service in one region."""
    return tuple(Request(service, operation, region) for operation in operations)


Say = Callable[[str], None]
"""Tells the progress display what a step is at."""


@dataclass(frozen=True)
class Step:
    """One thing to be done, small enough to be described in a line.

    Parameters
    ----------
    does:
        What it changes, in the imperative, with the names of the resources.
    requests:
        Every request that changes something and that it may send, retries and clean-up included.
    run:
        Does it. It finds by its derived name or tag what an earlier, killed run has made, and does not make
        it twice; it ends only when what it did can be read back.
    stage:
        Steps of one stage stand together; the next stage begins when all of one are done.
    lane:
        Lanes of a stage run side by side (one per region), the steps of one lane one after another.
    """

    does: str
    requests: tuple[Request, ...]
    run: Callable[[Say], None]
    stage: str
    lane: str = ""


@dataclass(frozen=True)
class Refusal:
    """A reason why the plan is not carried out.

    Parameters
    ----------
    check:
        Name of the rule, in kebab case; what a waiver would name.
    what:
        One line: what is wrong.
    hint:
        One line: what to do about it.
    """

    check: str
    what: str
    hint: str


@dataclass
class Plan:
    """What a command would do.

    Parameters
    ----------
    command:
        The command line that makes this plan again, as a user types it.
    title:
        What it is about, a line.
    steps:
        In the order in which they are carried out; none when all is as it should be.
    refusals:
        Where there is one, nothing is carried out (exit 3).
    notes:
        What is to be known before: cost, drift, what will happen to live sessions.
    facts:
        What ``--json`` gives beside the rest: contents diff, compat, cost now and after.
    """

    command: str
    title: str
    steps: list[Step] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def add(
        self,
        stage: str,
        does: str,
        allowed: Iterable[Request],
        run: Callable[[Say], None],
        *,
        lane: str = "",
    ) -> None:
        """Append a step.

        Parameters
        ----------
        stage, does, run, lane:
            As of :class:`Step`.
        allowed:
            Its requests.
        """
        self.steps.append(Step(does, tuple(allowed), run, stage, lane))

    def refuse(self, check: str, what: str, hint: str) -> None:
        """Append a refusal; see :class:`Refusal`."""
        self.refusals.append(Refusal(check, what, hint))

    def as_json(self) -> dict[str, Any]:
        """Return the plan for programs.

        Returns
        -------
        dict
            ``command``, ``title``, ``steps`` (``stage``, ``lane``, ``does``, ``requests``), ``refusals``,
            ``notes``, and the facts under their own names.
        """
        return {
            "command": self.command,
            "title": self.title,
            "steps": [
                {
                    "stage": step.stage,
                    "lane": step.lane,
                    "does": step.does,
                    "requests": [
                        f"{each.service}:{each.operation}@{each.region}" for each in sorted(step.requests)
                    ],
                }
                for step in self.steps
            ],
            "refusals": [vars(refusal) for refusal in self.refusals],
            "notes": self.notes,
            **self.facts,
        }

    def show(self, console: Console) -> None:
        """Print the plan for people: steps by stage, notes, refusals.

        Parameters
        ----------
        console:
            Where to.
        """
        console.print(f"[bold]{escape(self.title)}[/bold]", soft_wrap=True)
        stage = ""
        for number, step in enumerate(self.steps, 1):
            if step.stage != stage:
                stage = step.stage
                console.print(f"  {escape(stage)}", style="cyan", soft_wrap=True)
            lane = f" [dim]({escape(step.lane)})[/dim]" if step.lane else ""
            console.print(f"    {number}. {escape(step.does)}{lane}", soft_wrap=True)
        if not self.steps and not self.refusals:
            console.print("  nothing to do: all is as kiln.toml says")
        for note in self.notes:
            console.print(f"  note: {escape(note)}", style="dim", soft_wrap=True)
        for refusal in self.refusals:
            console.print(
                f"  [red]refused[/red] {escape(refusal.check)}: {escape(refusal.what)}", soft_wrap=True
            )
            console.print(f"    fix: {escape(refusal.hint)}", soft_wrap=True)
