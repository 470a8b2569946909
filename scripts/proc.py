"""Child processes that a killed kiln does not leave behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path

from kiln.errors import KilnError

GRACE_SECONDS = 40.0
"""How long an interrupted child may take to tidy up; Packer removes its container in under 15 s."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(sig: int = signal.SIGTERM) -> Callable[[], None]:
    """Return a ``preexec_fn`` that has the kernel send ``sig`` to the child when kiln dies."""
    parent = os.getpid()

    def arm() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, sig)
        if os.getppid() != parent:  # it died before it could be watched
            os.kill(os.getpid(), signal.SIGKILL)

    return arm


def _group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _stop(child: subprocess.Popen[str], grace: float) -> None:
    """End a child and all of its group: ask once, wait, then kill."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        try:
            # The pipe must be drained, or a child that says goodbye blocks on it.
            child.communicate(timeout=grace)
        except subprocess.TimeoutExpired:
            pass
    if _group_alive(child.pid):
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    child.wait()


def tail(log: Path, lines: int = 5) -> str:
    """Last lines of a log, joined for a one-line message."""
    text = log.read_text(errors="replace").strip().splitlines()
    said = (line.strip() for line in text[-lines:])
    return " | ".join(line for line in said if line and not line.startswith("$ "))


def run(
    command: Iterable[str | Path],
    log: Path,
    *,
    what: str,
    hint: str = "",
    on_line: Callable[[str], None] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    accepted: Container[int] = (0,),
) -> int:
    """Run a program with its output in a log, line by line.

    Parameters
    ----------
    command:
        Program and arguments.
    log:
        File to which stdout and stderr are appended.
    what:
        The step in words, for the error.
    hint:
        What to do when it fails; the log's path by default.
    on_line:
        Called with each line as it comes.
    env:
        Environment, ours by default.
    cwd:
        Folder to run in.
    timeout:
        Seconds after which the program is ended.
    accepted:
        Exit codes that are no failure.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    KilnError
        The program is missing, ended with another code, or took too long.
    """
    argv = [str(part) for part in command]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as out:
        out.write(f"$ {' '.join(argv)}\n")
        out.flush()
        try:
            # A group of its own: Ctrl-C reaches kiln alone, which passes it on once.
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=dict(env) if env is not None else None,
                cwd=cwd,
                process_group=0,
                preexec_fn=die_with_parent(),
            )
        except FileNotFoundError:
            raise KilnError(
                f"{what}: {argv[0]} is not installed", "run scripts/setup.sh, then try again"
            ) from None
        # A timer and not a look at the clock per line: a program that hangs writes none.
        late = threading.Event()

        def end() -> None:
            late.set()
            os.killpg(child.pid, signal.SIGKILL)

        timer = threading.Timer(timeout or 0, end)
        if timeout is not None:
            timer.start()
        try:
            assert child.stdout is not None
            for line in child.stdout:
                out.write(line)
                out.flush()
                if on_line is not None:
                    on_line(line.rstrip("\n"))
            code = child.wait()
        except BaseException:
            _stop(child, GRACE_SECONDS)
            raise
        finally:
            timer.cancel()
    if late.is_set():
        raise KilnError(f"{what} took longer than {timeout:.0f} s", f"read {log}")
    if code not in accepted:
        raise KilnError(f"{what} failed (exit code {code}): {tail(log)}", hint or f"read {log}")
    return code


def output(command: Iterable[str | Path], *, what: str, env: Mapping[str, str] | None = None) -> str:
    """Run a short program and return what it wrote to stdout.

    Raises
    ------
    KilnError
        The program is missing or ended with a code other than 0.
    """
    argv = [str(part) for part in command]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, env=dict(env) if env is not None else None
        )
    except FileNotFoundError:
        raise KilnError(
            f"{what}: {argv[0]} is not installed", "run scripts/setup.sh, then try again"
        ) from None
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise KilnError(
            f"{what} failed: {lines[-1] if lines else argv[0]}", f"try it by hand: {' '.join(argv)}"
        )
    return done.stdout
