"""The states of a drain and what is done in each, as tables. Every look decides anew: no state is
remembered here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kiln_instance.settings import Settings

LOOKS = 2
"""Looks in a row without work: between two trainings of a queue there is none for a moment, nor is there
while nginx hands a request on."""


@dataclass(frozen=True)
class Facts:
    """What is so.

    Parameters
    ----------
    leaving:
        Why the instance leaves: ``termination``, ``spot``, ``stop``; empty while it stays.
    waited:
        Seconds since that was seen first.
    left:
        Seconds until it ends whatever is done, None where nobody ends it.
    requests:
        In flight, with those that nginx holds.
    tasks:
        Trainings and batch inferences that run.
    idle:
        Looks in a row that found neither.
    completed:
        Whether Auto Scaling was told that it may go on.
    """

    leaving: str = ""
    waited: float = 0.0
    left: float | None = None
    requests: int = 0
    tasks: int = 0
    idle: int = 0
    completed: bool = False


def late(facts: Facts, settings: Settings) -> str:
    """Why waiting ends although there is work; empty where it goes on."""
    if facts.left is not None and facts.left <= settings.spot_margin:
        return f"the instance ends in {max(facts.left, 0):.0f} s"
    work = settings.training if facts.tasks else settings.drain
    limit = settings.stop if facts.leaving == "stop" else work
    return f"waited {facts.waited:.0f} s, the limit is {limit:g}" if facts.waited >= limit else ""


@dataclass(frozen=True)
class State:
    """A row of the table.

    Parameters
    ----------
    name:
        Of the state.
    when:
        Whether it is this one; the first row that says so is.
    closed:
        Whether new work is refused.
    protected:
        Whether a scale-in may not take the instance, None where it is no longer asked.
    heartbeat:
        Whether Auto Scaling is asked to wait on.
    complete:
        Whether it is told to go on.
    means:
        In words.
    """

    name: str
    when: Callable[[Facts, Settings], bool]
    closed: bool
    protected: bool | None
    heartbeat: bool
    complete: bool
    means: str


STATES = (
    State(
        "gone", lambda facts, _: bool(facts.leaving) and facts.completed,
        closed=True, protected=None, heartbeat=False, complete=False,
        means="drained, and Auto Scaling goes on",
    ),
    State(
        "drained", lambda facts, _: bool(facts.leaving) and facts.idle >= LOOKS,
        closed=True, protected=None, heartbeat=False, complete=True,
        means="nothing is left to wait for",
    ),
    State(
        "overdue", lambda facts, settings: bool(facts.leaving and late(facts, settings)),
        closed=True, protected=None, heartbeat=False, complete=True,
        means="there is work, and waiting has its limit",
    ),
    State(
        "draining", lambda facts, _: bool(facts.leaving),
        closed=True, protected=None, heartbeat=True, complete=False,
        means="no new work; what is under way may end",
    ),
    State(
        "training", lambda facts, _: facts.tasks > 0,
        closed=False, protected=True, heartbeat=False, complete=False,
        means="a training or batch inference runs: a scale-in takes another instance",
    ),
    State(
        "serving", lambda _, __: True,
        closed=False, protected=False, heartbeat=False, complete=False,
        means="work is taken",
    ),
)  # fmt: skip


def state(facts: Facts, settings: Settings) -> State:
    """The state that the facts make."""
    return next(row for row in STATES if row.when(facts, settings))
