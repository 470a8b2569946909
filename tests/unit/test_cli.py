"""The kiln command as a user runs it: two lines on stderr, the exit code, never a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from kiln import arguments, paths
from tests.unit import contract

KILN = Path(sys.executable).with_name("kiln")

COMMANDS = ["bake", "boot", "images", "pins", "prove", "show"]


def kiln(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [KILN, *arguments], capture_output=True, text=True, env={**os.environ, **environment}, timeout=60
    )


def told(done: subprocess.CompletedProcess[str], code: int) -> tuple[str, str]:
    """Check the form of an error; return what happened and what to do."""
    lines = done.stderr.splitlines()
    assert done.returncode == code, done.stderr
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("  fix: ")
    return lines[0].removeprefix("error: "), lines[1].removeprefix("  fix: ")


def test_help_names_every_command() -> None:
    done = kiln("--help", COLUMNS="200")
    assert done.returncode == 0
    assert [name for name in COMMANDS if f" {name} " not in done.stdout] == []
    for name in COMMANDS:
        assert kiln(name, "--help").returncode == 0


def test_the_command_line_loads_neither_side() -> None:
    probe = "import sys, kiln.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    loaded = {module.partition(".")[0] for module in done.stdout.split()}
    assert "typer" in loaded
    assert not loaded & {"scripts", "launch", "rich", "pydantic"}


@pytest.mark.parametrize(
    ("arguments", "what", "fix"),
    [
        (["baek"], "No such command 'baek'. Did you mean 'bake'?", "see: kiln --help"),
        (["bake"], "Missing argument 'IMAGE'", "see: kiln bake --help"),
        (["bake", "x", "--forse"], "No such option: --forse", "see: kiln bake --help"),
        (["boot", "x", "--ssh-port", "70000"], "Invalid value for '--ssh-port'", "see: kiln boot --help"),
        (["pins", "add"], "Missing argument 'ROLE'", "see: kiln pins add --help"),
        (["show", "x@"], "'x@' names no image and version", "write IMAGE or IMAGE@VERSION; see: kiln images"),
        (["show", "@1"], "'@1' names no image and version", "write IMAGE or IMAGE@VERSION; see: kiln images"),
    ],
)
def test_wrong_use(arguments: list[str], what: str, fix: str) -> None:
    happened, hint = told(kiln(*arguments), 2)
    assert happened.startswith(what)
    assert hint == fix


@pytest.mark.parametrize("arguments", [[], ["pins"]])
def test_no_command_is_answered_with_the_help(arguments: list[str]) -> None:
    done = kiln(*arguments)
    assert (done.returncode, done.stderr) == (2, "")
    assert "Usage: kiln" in done.stdout


@pytest.mark.parametrize("command", ["show", "prove", "boot"])
@pytest.mark.parametrize("version", ["", f"@{contract.VERSION}"])
def test_an_unknown_image_gets_the_known_ones(build: Path, command: str, version: str) -> None:
    contract.put(build, "tiny", verdict="passed")
    _, hint = told(kiln(command, f"tinny{version}"), 2)
    assert "did you mean 'tiny'?" in hint


@pytest.mark.parametrize("command", ["show", "prove", "boot"])
def test_an_unknown_version_gets_the_known_ones(build: Path, command: str) -> None:
    contract.put(build, "tiny", verdict="passed")
    _, hint = told(kiln(command, "tiny@20200101T000000Z-00000000"), 2)
    assert contract.VERSION in hint


def test_bake_tells_kiln_toml_s_mistake_by_its_line(build: Path, tmp_path: Path) -> None:
    text = (paths.ROOT / "kiln.toml").read_text().replace("root_gb", "root_bg")
    (tmp_path / "kiln.toml").write_text(text)
    line = text[: text.index("root_bg")].count("\n") + 1
    for done in (
        kiln("bake", "monai-label", "--config", str(tmp_path / "kiln.toml")),
        kiln("bake", "monai-label", KILN_CONFIG=str(tmp_path / "kiln.toml")),
    ):
        happened, hint = told(done, 2)
        assert happened.startswith(f"{tmp_path}/kiln.toml:{line}: unknown key image.monai-label.root_bg")
        assert "did you mean 'root_gb'?" in hint


@pytest.mark.parametrize("variable", ["KILN_BUILD", "KILN_CACHE"])
@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_told(build: Path, tmp_path: Path, variable: str, place: str) -> None:
    (tmp_path / "file").touch()
    what, fix = told(kiln("bake", "monai-label", **{variable: str(tmp_path / place)}), 2)
    assert f"no folder can be made at {tmp_path / place}" in what
    assert variable in fix


def test_json_is_for_programs(build: Path) -> None:
    contract.put(build, "tiny", verdict="passed")
    listed = json.loads(kiln("images", "--json").stdout)
    shown = json.loads(kiln("show", "tiny", "--json").stdout)
    assert listed[0]["version"] == shown["manifest"]["version"] == contract.VERSION


def test_a_pipe_gets_whole_lines(build: Path) -> None:
    contract.put(build, "tiny", verdict="passed")
    assert f"{contract.VERSION} (latest)" in kiln("images", COLUMNS="40").stdout


def test_a_reader_that_leaves_is_no_error(build: Path) -> None:
    for number in range(60):
        contract.put(build, version=f"20260101T0000{number:02d}Z-01234567")
    script = f"set -o pipefail; {KILN} images --json | head -n 1; {KILN} show tiny --json | head -n 1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""


CRASH = """
import scripts.images
from kiln import cli
def broken(as_json): raise ZeroDivisionError("division by zero\\nsecond line")
scripts.images.print_images = broken
cli.main()
"""


def crash(build: Path, program: str = CRASH) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, "images"], capture_output=True, text=True, timeout=60
    )


def test_an_error_that_nobody_foresaw_is_kept_in_a_file(build: Path) -> None:
    happened, hint = told(crash(build), 1)
    assert happened == "ZeroDivisionError: division by zero"
    [log] = (build / "logs").iterdir()
    assert str(log) in hint
    assert log.read_text().startswith("kiln images\nTraceback")


def test_even_where_no_file_can_be_written(build: Path) -> None:
    (build / "logs").write_text("in the way")
    happened, hint = told(crash(build), 1)
    assert happened == "ZeroDivisionError: division by zero"
    assert "the log could not be written" in hint


FULL = """
import errno, os
import scripts.images
from kiln import cli
def broken(as_json):
    {statement}
scripts.images.print_images = broken
cli.main()
"""

FULL_CASES = {
    "a write names no file": ('open("/dev/full", "w").write("x" * 10000)', "a disk; "),
    "a full disk": ('raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/big/new")', "/big/new"),
    "a used-up quota": ('raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/home/x")', "/home/x"),
    "a copy names both": ('raise OSError(errno.ENOSPC, "No space", "/from", None, "/to")', "/to"),
}


@pytest.mark.parametrize(("statement", "where"), FULL_CASES.values(), ids=FULL_CASES)
def test_a_full_disk_is_no_bug(build: Path, statement: str, where: str) -> None:
    happened, hint = told(crash(build, FULL.format(statement=statement)), 1)
    assert happened.startswith(f"no room left on {where}")
    assert "The disk is full" in hint
    assert "## The disk is full" in (paths.ROOT / "docs/operations.md").read_text()
    assert not (build / "logs").exists()


def test_without_a_name_it_is_a_folder_of_ours(build: Path) -> None:
    happened, _ = told(crash(build, FULL.format(statement=FULL_CASES["a write names no file"][0])), 1)
    assert any(str(place) in happened for place in (build, paths.cache_dir(), tempfile.gettempdir()))


def test_an_output_that_is_full_is_no_bug(build: Path) -> None:
    for number in range(60):
        contract.put(build, version=f"20260101T0000{number:02d}Z-01234567")
    for command in (["images", "--json"], ["--help"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [KILN, *command], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
            )
        happened, _ = told(done, 1)
        assert happened.startswith("no room left on ")


def test_another_error_of_the_system_is_still_told_as_a_bug(build: Path) -> None:
    _, hint = told(crash(build, FULL.format(statement='open("/no/such/folder/file")')), 1)
    assert "this is a bug in kiln" in hint


WAIT = """
import time
import scripts.images
from kiln import cli
def wait(as_json):
    try:
        print("waiting", flush=True)
        time.sleep(60)
    finally:
        print("tidied up", flush=True)
scripts.images.print_images = wait
cli.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_the_command_tidy_up(number: signal.Signals) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", WAIT, "images"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "waiting\n"
    child.send_signal(number)
    out, err = child.communicate(timeout=20)
    assert (child.returncode, out) == (128 + number, "tidied up\n")
    first, last = err.splitlines()
    assert "kill -9 is safe" in first
    assert last == f"stopped by {number.name}"


# What it starts tells by its own end whether it was interrupted.
TIDY = """
import subprocess, time
import scripts.images
from kiln import cli
def wait(as_json):
    try:
        print("waiting", flush=True)
        time.sleep(60)
    finally:
        print("tidying", flush=True)
        print("ended with", subprocess.run(["sleep", "1.5"]).returncode, flush=True)
scripts.images.print_images = wait
cli.main()
"""


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_does_not_break_the_clean_up(second: signal.Signals) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", TIDY, "images"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "waiting\n"
    child.send_signal(signal.SIGINT)
    assert child.stdout.readline() == "tidying\n"
    time.sleep(0.5)  # until sleep runs
    # As a terminal sends it: to all of the group.
    os.killpg(child.pid, second)
    out, err = child.communicate(timeout=20)
    assert (child.returncode, out) == (130, "ended with 0\n")
    assert err.splitlines()[-1] == "stopped by SIGINT"
    assert err.count("tidying up") == 1


def test_nohup_is_respected() -> None:
    command = ["nohup", sys.executable, "-c", WAIT.replace("60", "1"), "images"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
        child.send_signal(signal.SIGHUP)
        assert child.wait(timeout=20) == 0


@pytest.mark.parametrize(
    ("text", "parts"),
    [("a", ("a", None)), ("a@1", ("a", "1")), ("a@1@2", ("a", "1@2"))],
)
def test_split(text: str, parts: tuple[str, str | None]) -> None:
    assert arguments.split(text) == parts
