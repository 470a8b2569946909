"""scripts/setup.sh: nothing to do is silent and quick, and what it cannot do it says in two lines."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from kiln import paths
from scripts import locks

SETUP = paths.ROOT / "scripts/setup.sh"


def setup(script: Path = SETUP, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script], capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )


def told(done: subprocess.CompletedProcess[str], code: int) -> str:
    lines = done.stderr.splitlines()
    assert done.returncode == code, done.stderr
    assert [line[:7] for line in lines[-2:]] == ["error: ", "  fix: "]
    return lines[-2].removeprefix("error: ")


def fake(folder: Path, name: str, body: str) -> None:
    """Put a program in a folder that goes first on PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout of its own: the script works in the folder above it."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(SETUP, tmp_path / "scripts/setup.sh")
    shutil.copytree(paths.ROOT / "requirements", tmp_path / "requirements")
    shutil.copy(paths.ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_with_everything_there_it_is_silent_and_quick() -> None:
    assert setup().returncode == 0  # an edit of pyproject.toml is something to do, once
    start = time.perf_counter()
    done = setup()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.perf_counter() - start < 5


def test_it_is_silent_from_any_folder(tmp_path: Path) -> None:
    done = subprocess.run([SETUP], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ("ID=ubuntu\nVERSION_ID='24.04'\n", "ubuntu 24.04"),
        ("ID=debian\nVERSION_ID='13'\n", "debian 13"),
        ("ID=debian\n", "debian"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_another_system_is_refused_before_anything_is_done(
    copy: Path, release: str | None, name: str
) -> None:
    if release is not None:
        (copy / "os-release").write_text(release)
    done = setup(copy / "scripts/setup.sh", KILN_OS_RELEASE=str(copy / "os-release"))
    assert told(done, 2) == f"this machine runs {name}; kiln is made for Debian 12"
    assert not (copy / "build").exists()
    assert not (copy / ".venv").exists()


def test_another_processor_is_refused(copy: Path) -> None:
    fake(copy / "bin", "uname", "echo aarch64")
    done = setup(copy / "scripts/setup.sh", PATH=f"{copy}/bin:{os.environ['PATH']}")
    assert "aarch64" in told(done, 2)


# dpkg-query as it answers where podman is missing and genimage was removed but for its settings.
INCOMPLETE = """
for name in "$@"; do
  case "$name" in
    -*|'${'*) ;;
    podman) ;;
    genimage) echo "config-files $name" ;;
    *) echo "installed $name" ;;
  esac
done
exit 1
"""


def test_only_what_is_missing_is_installed(copy: Path) -> None:
    fake(copy / "bin", "dpkg-query", INCOMPLETE)
    fake(copy / "bin", "apt-get", f'echo "$@" >> {copy}/apt; [ "$3" != DPkg::Lock::Timeout=300 ] || exit 0')
    fake(copy / "bin", "id", "echo 0")
    # Python is another matter: it stops at the first thing that it would fetch.
    fake(copy / "bin", "sha256sum", "echo stop; exit 1")
    done = setup(copy / "scripts/setup.sh", PATH=f"{copy}/bin:{os.environ['PATH']}")
    assert "setup: installing Debian packages: genimage podman\n" in done.stderr
    calls = (copy / "apt").read_text().splitlines()
    assert [call.split("300 ")[1] for call in calls] == [
        "update",
        "install -y --no-install-recommends genimage podman",
    ]


def test_without_root_and_without_sudo_it_says_what_is_missing(copy: Path) -> None:
    fake(copy / "bin", "dpkg-query", INCOMPLETE)
    fake(copy / "bin", "id", "echo 1000")
    for name in ("bash", "dirname", "uname", "mkdir", "flock", "sed", "sort", "comm", "cat"):
        (copy / "bin" / name).symlink_to(str(shutil.which(name)))
    done = setup(copy / "scripts/setup.sh", PATH=f"{copy}/bin")
    assert told(done, 1) == "these Debian packages are missing: genimage podman"


def test_what_apt_said_is_shown_when_it_fails(copy: Path) -> None:
    fake(copy / "bin", "dpkg-query", INCOMPLETE)
    fake(copy / "bin", "id", "echo 0")
    fake(copy / "bin", "apt-get", 'echo "E: Unable to locate package podman" >&2; exit 100')
    done = setup(copy / "scripts/setup.sh", PATH=f"{copy}/bin:{os.environ['PATH']}")
    assert told(done, 1) == "apt-get update failed"
    assert "E: Unable to locate package podman" in done.stderr
    assert str(copy / "build/logs/setup.log") in done.stderr


def test_a_half_made_venv_is_finished(copy: Path) -> None:
    """What .venv is to hold is asked of its stamp; an interrupted run leaves none."""
    subprocess.run(["python3", "-m", "venv", copy / ".venv"], check=True)
    fake(copy / ".venv/bin", "kiln", "")
    fake(
        copy / "bin", "dpkg-query", INCOMPLETE.replace("podman) ;;", "").replace("config-files", "installed")
    )
    (copy / "requirements/uv.lock").write_text("uv==0 --hash=sha256:" + "0" * 64)
    done = setup(
        copy / "scripts/setup.sh",
        PATH=f"{copy}/bin:{os.environ['PATH']}",
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS="",
    )
    assert told(done, 1) == "installing uv failed"
    assert not (copy / ".venv/.kiln-setup").exists()


def test_no_lock_names_a_host() -> None:
    for path in sorted((paths.ROOT / "requirements").glob("*")):
        if path.suffix in (".lock", ".in"):
            lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
            assert not [
                line for line in lines if re.search(r"https?://|--(extra-)?index|--find-links", line)
            ], path


def test_every_requirement_has_a_hash_and_every_lock_a_row() -> None:
    there = {path.stem for path in (paths.ROOT / "requirements").glob("*.lock")}
    assert there == {lock.name for lock in locks.LOCKS}
    for name in there:
        text = (paths.ROOT / f"requirements/{name}.lock").read_text()
        pins = re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==\S+((?:.*\\\n)*.*)", text, re.M)
        assert pins
        assert not [pin for pin, rest in pins if "--hash=sha256:" not in rest], name


def test_the_tests_run_with_the_versions_that_kiln_runs_with() -> None:
    def versions(name: str) -> set[str]:
        return set(re.findall(r"^\S+==\S+", (paths.ROOT / f"requirements/{name}.lock").read_text(), re.M))

    assert versions("kiln") <= versions("dev")
