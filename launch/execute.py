"""Carry out a plan: stage by stage, lanes side by side, each step allowed its own requests and no others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from itertools import groupby

from rich.console import Console

from kiln.errors import Exit, KilnError, RefusedError
from kiln.progress import Progress
from launch.cloud import Cloud
from launch.lock import STAGE as LOCKING
from launch.lock import Lock
from launch.plan import Plan, Request, Step
from launch.trouble import told

LANES = 20
"""How many lanes run side by side: AWS has some thirty regions, and a connection each is cheap."""


def carry_out(
    plan: Plan,
    cloud: Cloud,
    *,
    only_plan: bool = False,
    as_json: bool = False,
    exit_code: bool = False,
    console: Console | None = None,
    lock: Lock | None = None,
    again: Callable[[], Plan] | None = None,
) -> Exit:
    """Show a plan, and carry it out unless only the plan was asked for.

    Parameters
    ----------
    plan:
        What to do.
    cloud:
        Where.
    only_plan:
        Show and end (``--plan``).
    as_json:
        Print the plan as JSON on stdout instead of for people.
    exit_code:
        End with 4 where there is nothing to do (``--exit-code``).
    console:
        Where people read; stdout by default.
    lock:
        What is held while the steps run; taking it becomes the first step of the plan.
    again:
        Makes the plan anew. With the lock in hand it must come to no other steps, or nothing is done: the
        plan was made before, and another run may have ended in between.

    Returns
    -------
    Exit
        DONE, REFUSED, or NOTHING_TO_DO with ``exit_code``.

    Raises
    ------
    KilnError
        A step failed; what the steps before it did stays, and the same command goes on from there.
    RefusedError
        Another run holds the lock, or the plan is no longer true.
    KeyboardInterrupt
        Ctrl-C; how to go on was printed.
    """
    console = console or Console(highlight=False)
    # A run that was killed after its last step has left nothing to do but its lock.
    if lock is not None and not plan.refusals and (plan.steps or lock.left()):
        plan.steps.insert(0, lock.step())
    if as_json:
        console.print_json(data=plan.as_json())
    else:
        plan.show(console)
    if plan.refusals:
        return Exit.REFUSED
    if not plan.steps:
        return Exit.NOTHING_TO_DO if exit_code else Exit.DONE
    if only_plan:
        return Exit.DONE
    with Progress(plan.title) as progress:
        try:
            steps = plan.steps
            if lock is not None:
                with progress.stage(LOCKING):
                    _stage(steps[:1], cloud, progress, lock)
                    steps = steps[1:] if again is None else _still_to_do(plan, again())
            for stage, those in groupby(steps, key=lambda step: step.stage):
                with progress.stage(stage):
                    _stage(list(those), cloud, progress, lock)
        except KeyboardInterrupt:
            progress.say(f"stopped; what is done stays. Go on with: {plan.command}")
            raise
        finally:
            if lock is not None:
                _release(lock, progress)
    return Exit.DONE


def _release(lock: Lock, progress: Progress) -> None:
    try:
        lock.release()
    except KilnError as error:
        # What was done is done; a lock that stays is no reason to call it failed.
        progress.say(f"the lock {lock.name} was not released and ends by itself: {error.what}")


def _still_to_do(plan: Plan, new: Plan) -> list[Step]:
    """Return the steps of the new plan, where each of them was shown.

    Fewer than were shown is well: what a killed run had asked for may have come to be in between.

    Raises
    ------
    RefusedError
        Something else is to be done now than was shown.
    """
    shown = iter([_what(step) for step in plan.steps[1:]])
    if new.refusals or not all(_what(step) in shown for step in new.steps):
        raise RefusedError(
            "what was shown is no longer true: another run has changed something since",
            f"look at the new plan: {plan.command}",
        )
    return new.steps


def _what(step: Step) -> tuple[str, str, str, tuple[Request, ...]]:
    return step.stage, step.lane, step.does, step.requests


def _stage(steps: list[Step], cloud: Cloud, progress: Progress, lock: Lock | None) -> None:
    lanes: dict[str, list[Step]] = {}
    for step in steps:
        lanes.setdefault(step.lane, []).append(step)
    if len(lanes) == 1:
        _lane(steps, cloud, progress, threading.Event(), lock)
        return
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=min(LANES, len(lanes))) as pool:
        futures = {
            pool.submit(_lane, lane, cloud, progress, stop, lock): name for name, lane in lanes.items()
        }
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            # A lane ends the step that it is at; no lane begins another.
            stop.set()
    failed = {futures[each]: error for each in futures if (error := each.exception()) is not None}
    if failed:
        _raise(failed, len(lanes))


def _lane(
    steps: Iterable[Step], cloud: Cloud, progress: Progress, stop: threading.Event, lock: Lock | None
) -> None:
    for step in steps:
        if stop.is_set():
            return
        if lock is not None:
            lock.check()
        progress.detail(step.does)
        with cloud.permit(step.requests), told(step.does):
            step.run(progress.detail)


def _raise(failed: dict[str, BaseException], lanes: int) -> None:
    """Raise the first error; where several lanes failed, say which."""
    name, error = next(iter(failed.items()))
    if len(failed) > 1 and isinstance(error, KilnError):
        others = ", ".join(sorted(set(failed) - {name}))
        raise KilnError(
            f"{error.what} (and {len(failed) - 1} more of {lanes}: {others})", error.hint
        ) from error
    raise error
