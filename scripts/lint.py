"""``make lint``: every linter of the checkout, a line each. A linter that finds nothing to look at fails."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from kiln import paths

BIN = Path(sys.executable).parent

Command = list[str]


@dataclass(frozen=True)
class Linter:
    """A row of the table.

    Parameters
    ----------
    name:
        As ``--only`` takes it.
    commands:
        Makes the command lines for a checkout; each is run in it, and each must succeed.
    """

    name: str
    commands: Callable[[Path], Iterable[Command]]


@dataclass(frozen=True)
class Outcome:
    """What a linter said.

    Parameters
    ----------
    name:
        Of the linter.
    passed:
        Whether it found nothing wrong.
    seconds:
        Time it took.
    output:
        What it printed.
    """

    name: str
    passed: bool
    seconds: float
    output: str


def _there(root: Path, *names: str) -> list[str]:
    return [name for name in names if (root / name).exists()]


def _on(*words: str, over: Sequence[str]) -> Callable[[Path], Iterable[Command]]:
    """Return the commands of a linter that takes those of the given paths that are there."""

    def commands(root: Path) -> Iterable[Command]:
        if found := _there(root, *over):
            yield [*words, *found]

    return commands


def _generated(file: str, module: str) -> Callable[[Path], Iterable[Command]]:
    """Return the command of a module of ours that compares what it generates."""
    return lambda root: [[sys.executable, "-m", module, "--check"]] if _there(root, file) else []


def _shell(root: Path) -> Iterable[Command]:
    files = (
        path
        for folder in _there(root, ".ci", "scripts", "launch", "ansible", "molecule", "tests")
        for path in sorted((root / folder).rglob("*"))
        if path.is_file() and _is_shell(path)
    )
    if scripts := [str(path.relative_to(root)) for path in files]:
        yield ["shellcheck", *scripts]


def _is_shell(path: Path) -> bool:
    # A template is no script yet; what comes of it is parsed by tests/windows/test_templates.py.
    if path.suffix == ".j2":
        return False
    with path.open("rb") as stream:
        return re.match(rb"#!.*\b(ba|da)?sh\b", stream.readline(100)) is not None


def _packer(root: Path) -> Iterable[Command]:
    folders = sorted({path.parent for path in (root / "packer").glob("*/*.pkr.hcl")})
    for folder in folders:
        template = f"{folder.relative_to(root)}/"
        yield ["packer", "fmt", "-check", "-diff", template]
        # All of it: -syntax-only would pass a template that no builder accepts.
        yield ["packer", "validate", template]
    for path in sorted((root / "packer").glob("*.hcl")):
        yield ["packer", "fmt", "-check", "-diff", str(path.relative_to(root))]


_PYTHON = ("kiln", "launch", "scripts", "tests", "molecule", "ansible")
_YAML = ("ansible", "molecule", ".config", ".pre-commit-config.yaml")

LINTERS: tuple[Linter, ...] = (
    Linter(
        "ansible-lint",
        _on("ansible-lint", "--offline", "--profile=production", "-q", over=("ansible", "molecule")),
    ),
    Linter("mypy", _on("mypy", over=("kiln", "launch", "scripts"))),
    Linter("packer", _packer),
    Linter("role README", _generated("scripts/role_readme.py", "scripts.role_readme")),
    Linter("ruff check", _on("ruff", "check", "--quiet", over=_PYTHON)),
    Linter("ruff format", _on("ruff", "format", "--check", "--quiet", over=_PYTHON)),
    Linter("schemas", _generated("kiln/schemas/__main__.py", "kiln.schemas")),
    Linter(
        "shell tasks",
        _on(sys.executable, "-m", "scripts.shell_tasks", over=("ansible", "molecule")),
    ),
    Linter("shellcheck", _shell),
    Linter("yamllint", _on("yamllint", "--strict", over=_YAML)),
)
"""The slowest first, since they run beside each other."""


def lint(linter: Linter, root: Path) -> Outcome:
    """Run one linter.

    Parameters
    ----------
    linter:
        A row of the table.
    root:
        The checkout.

    Returns
    -------
    Outcome
        Failed also where there was nothing to look at, or the program is missing.
    """
    start = time.monotonic()
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "CHECKPOINT_DISABLE": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # it would make Ansible start cold every time
    output, passed = "", True
    commands = list(linter.commands(root))
    for command in commands:
        try:
            done = subprocess.run(
                command,
                cwd=root,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except FileNotFoundError:
            return Outcome(linter.name, False, 0.0, f"{command[0]} is not installed; run scripts/setup.sh\n")
        if done.returncode != 0:
            passed = False
            output += f"$ {' '.join(command)}\n{done.stdout}"
    if not commands:
        output = "nothing to look at: a linter that sees no file cannot pass\n"
    return Outcome(linter.name, passed and bool(commands), time.monotonic() - start, output)


def run(root: Path, names: Sequence[str] = ()) -> int:
    """Run linters beside each other and print a line each, with what the failed ones said.

    Parameters
    ----------
    root:
        The checkout.
    names:
        Which of them; by default all.

    Returns
    -------
    int
        0 if every one passed, else 1.
    """
    chosen = [linter for linter in LINTERS if not names or linter.name in names]
    failed: list[str] = []
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for job in as_completed([pool.submit(lint, linter, root) for linter in chosen]):
            outcome = job.result()
            print(
                f"{'ok  ' if outcome.passed else 'FAIL'} {outcome.name:<14} {outcome.seconds:5.1f} s",
                flush=True,
            )
            if not outcome.passed:
                failed.append(outcome.name)
                print(outcome.output, end="", flush=True)
    if failed:
        again = " ".join(f"--only '{name}'" for name in sorted(failed))
        print(f"error: lint failed: {', '.join(sorted(failed))}", file=sys.stderr)
        print(f"  fix: see above; once more by: .venv/bin/python -m scripts.lint {again}", file=sys.stderr)
    return 1 if failed else 0


def main() -> int:
    """Run the command line; return the exit code.

    Returns
    -------
    int
        0 if every linter passed, else 1.
    """
    parser = argparse.ArgumentParser(prog="python -m scripts.lint", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=[linter.name for linter in LINTERS],
        help="run this one",
    )
    return run(paths.ROOT, parser.parse_args().only)


if __name__ == "__main__":
    sys.exit(main())
