"""Runs a case: the command with its fault, then the same command again; and judges where both have led."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from tests.aws.account import ACCOUNT, KILN_TOML, REGION
from tests.aws.faulty.cases import Case
from tests.aws.faulty.command import Command
from tests.aws.faulty.scenarios import Scenario
from tests.emulator.handle import Emulator, Process

State = dict[str, Any]

SERVING = ("groups", "instances", "parameters", "fleets")
"""Kinds of resources that say what runs or is to run."""


@dataclass
class Prepared:
    """A scenario that is ready, and what an undisturbed run makes of it.

    Parameters
    ----------
    scenario:
        It.
    emulator:
        With the account.
    folder:
        With ``kiln.toml`` and ``build``.
    before, after:
        The account before the command, and after it ran twice undisturbed.
    requests:
        What the first of these runs sent.
    """

    scenario: Scenario
    emulator: Emulator
    folder: Path
    before: State = field(default_factory=dict)
    after: State = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Parameters
    ----------
    case:
        It.
    codes:
        Exit codes of the command with its fault and of the one after it.
    wrong:
        Why it was not resumed, a line each; empty when it was.
    leaked:
        Resources that are there and that an undisturbed run does not leave.
    wrong_image:
        What runs or is to run another image than the one before or the one after.
    """

    case: Case
    codes: tuple[int, int]
    wrong: tuple[str, ...]
    leaked: tuple[str, ...]
    wrong_image: tuple[str, ...]


def maker(endpoint: str) -> Any:
    """Return what makes clients of an emulator, as the fixture ``client`` does."""

    def make(service: str, region: str = REGION, account: str = ACCOUNT) -> Any:
        return boto3.client(
            service,  # type: ignore[call-overload]
            region_name=region,
            endpoint_url=endpoint,
            aws_access_key_id=f"AKIAKILN{account}",
            aws_secret_access_key="secret",
        )

    return make


@contextmanager
def prepared(scenario: Scenario, folder: Path) -> Iterator[Prepared]:
    """Prepare a scenario and run its command undisturbed, in a copy.

    Parameters
    ----------
    scenario:
        Which.
    folder:
        Is made.

    Raises
    ------
    AssertionError
        The undisturbed command fails, or its second run changes something.
    """
    (folder / "build").mkdir(parents=True)
    (folder / "kiln.toml").write_text(KILN_TOML)
    with Process() as emulator:
        kiln = functools.partial(_kiln, emulator.endpoint, folder)
        scenario.prepare(maker(emulator.endpoint), folder / "build", kiln)
        made = Prepared(scenario, emulator, folder, before=emulator.state())
        with emulator.fork() as copy, _own(folder, "undisturbed") as own:
            since = len(copy.requests())
            _must(scenario, copy.endpoint, own)
            made.requests = [each for each in copy.requests(since) if each["service"]]
            once = copy.state()
            _must(scenario, copy.endpoint, own)
            made.after = copy.state()
            differing = different(made.after, once)
            assert not differing, f"{scenario.name} run twice: {differing[0]}"
        assert different(made.before, made.after), f"{scenario.name} changes nothing"
        yield made


def _kiln(endpoint: str, folder: Path, *arguments: str) -> int:
    return Command(arguments, endpoint, folder, folder / "log").wait()


def _must(scenario: Scenario, endpoint: str, folder: Path) -> None:
    code = _kiln(endpoint, folder, *scenario.arguments)
    said = (folder / "log").read_text()[-2000:]
    assert code == 0, f"kiln {' '.join(scenario.arguments)} ended with {code}:\n{said}"


@contextmanager
def _own(folder: Path, name: str) -> Iterator[Path]:
    """A copy of a scenario's folder; kept when what is done in it fails."""
    own = folder.parent / f"{folder.name}-{name}"
    shutil.copytree(folder, own, symlinks=True)
    (own / "log").unlink(missing_ok=True)
    (own / "kiln.toml").write_text(KILN_TOML)
    yield own
    shutil.rmtree(own)


def run(made: Prepared, case: Case, number: int) -> Outcome:
    """Run a case and judge it.

    Parameters
    ----------
    made:
        Its scenario.
    case:
        Which.
    number:
        Names its folder.
    """
    with made.emulator.fork() as copy, _own(made.folder, str(number)) as own:
        copy.faults([case.rule()])
        first = Command(made.scenario.arguments, copy.endpoint, own, own / "log")
        if case.fault == "killed":
            while not first.ended():
                if copy.held(0.05):
                    first.kill()
        code = first.wait()
        met = sum(rule["met"] for rule in copy.rules())
        copy.faults([])
        between = copy.state()
        again = _kiln(copy.endpoint, own, *made.scenario.arguments)
        end = copy.state()
        wrong = [] if met else ["the call was not sent"]
        if again != 0:
            wrong.append(f"the command again ended with {again}: {_last_words(own / 'log')}")
        wrong += different(end, made.after)
        strange = {line for state in (between, end) for line in wrong_images(state, made.before, made.after)}
    return Outcome(case, (code, again), tuple(wrong), tuple(leaked(end, made.after)), tuple(sorted(strange)))


def _last_words(log: Path) -> str:
    return " / ".join(log.read_text(errors="replace").strip().splitlines()[-2:])


def different(state: State, expected: State) -> list[str]:
    """Say how two ends differ, resource by resource, a line each.

    Parameters
    ----------
    state, expected:
        As :meth:`tests.emulator.handle.Emulator.state` returns them: kind → name → what it is.
    """
    lines = []
    for kind in sorted(state.keys() | expected.keys()):
        have, want = state.get(kind, {}), expected.get(kind, {})
        lines += [f"{kind} {name} is missing" for name in sorted(want.keys() - have.keys())]
        lines += [f"{kind} {name} is too much" for name in sorted(have.keys() - want.keys())]
        lines += [
            f"{kind} {name} is {have[name]}, not {want[name]}"
            for name in sorted(have.keys() & want.keys())
            if have[name] != want[name]
        ]
    return lines


def leaked(state: State, expected: State) -> list[str]:
    """Resources that an undisturbed run does not leave; parameters as of :func:`different`."""
    return [
        f"{kind} {name}"
        for kind in sorted(state)
        for name in sorted(state[kind].keys() - expected.get(kind, {}).keys())
    ]


def wrong_images(state: State, before: State, after: State) -> list[str]:
    """Say what runs or is to run an image that is neither the one before nor the one after.

    Parameters
    ----------
    state:
        What is.
    before, after:
        Of the undisturbed command.
    """
    return [
        f"{kind} {name} names {image}"
        for kind in SERVING
        for name, what in state.get(kind, {}).items()
        for image in sorted(_images(name, what) - _known(kind, before) - _known(kind, after))
    ]


def _known(kind: str, state: State) -> set[str]:
    return {image for name, what in state.get(kind, {}).items() for image in _images(name, what)}


def _images(name: str, what: Any) -> set[str]:
    """Names of images in a resource's name or in what it is."""
    if isinstance(what, dict):
        return {image for key, value in what.items() for image in _images(str(key), value)} | _in(name)
    if isinstance(what, list | tuple):
        return {image for value in what for image in _images("", value)} | _in(name)
    return _in(name) | _in(str(what))


def _in(text: str) -> set[str]:
    return {
        word
        for word in text.replace("/", " ").split()
        if word.startswith(("kiln-monai", "kiln-slicer", "gone:"))
    }
