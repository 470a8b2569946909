"""The engine that is taken: podman before Docker, the one that was asked for, and neither by two lines.

That each runs a root folder is seen where there is one: podman in every bake, Docker in
``tests/benchmarks/bake_by_docker.py``. The programs here only answer as they do.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kiln.errors import KilnError, UsageError
from scripts import engine

RUNS = 'case "$*" in --version) echo podman version 4.3.1;; version*) echo 20.10.24;; ps*) ;; *) true;; esac'
NO_CONTAINER = 'case "$*" in run*) echo "Error: no cgroups" >&2; exit 125;; *) echo 1.0;; esac'
NO_DAEMON = 'echo "Cannot connect to the Docker daemon" >&2; exit 1'
REMOTE = """case "$*" in
run*) printf "docker: no such path\\n\\nRun 'docker run --help' more\\n" >&2; exit 125;; *) echo 28;; esac"""
STAYS = 'case "$*" in ps*) echo 0123456789ab;; *) echo 1.0;; esac'


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that alone is on PATH; each program in it notes how it was called."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("KILN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(engine.CHOICE, raising=False)
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def put(machine: Path, **programs: str) -> None:
    for name, body in programs.items():
        (machine / name).write_text(f'#!/bin/sh\necho "$*" >>{machine}/{name}.calls\n{body}\n')
        (machine / name).chmod(0o755)


def calls(machine: Path, name: str) -> str:
    noted = machine / f"{name}.calls"
    return noted.read_text() if noted.exists() else ""


def test_podman_comes_first_and_docker_is_not_asked(machine: Path, tmp_path: Path) -> None:
    put(machine, podman=RUNS, docker=RUNS)
    assert isinstance(engine.find(tmp_path), engine.Podman)
    assert not calls(machine, "docker")


@pytest.mark.parametrize("podman", [None, NO_CONTAINER], ids=["none", "runs nothing"])
def test_docker_where_podman_runs_nothing(machine: Path, tmp_path: Path, podman: str | None) -> None:
    put(machine, docker=RUNS, **({"podman": podman} if podman else {}))
    found = engine.find(tmp_path)
    assert isinstance(found, engine.Docker)
    assert found.version == "20.10.24"


def test_podman_gets_the_settings_of_an_old_machine(machine: Path, tmp_path: Path) -> None:
    put(machine, podman='case "$*" in run*) [ -s "$CONTAINERS_CONF" ] || exit 125;; *) echo 4;; esac')
    assert engine.find(tmp_path).env["CONTAINERS_CONF"].startswith(str(tmp_path / "cache"))


def test_the_one_that_was_asked_for(machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(machine, podman=RUNS, docker=RUNS)
    monkeypatch.setenv(engine.CHOICE, "docker")
    assert isinstance(engine.find(tmp_path), engine.Docker)
    monkeypatch.setenv(engine.CHOICE, "dokcer")
    with pytest.raises(UsageError, match="KILN_ENGINE=dokcer is no engine") as said:
        engine.find(tmp_path)
    assert said.value.hint == "set it to podman or docker, or unset it"


def test_neither_is_said_of_both(machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KilnError) as said:
        engine.find(tmp_path)
    assert said.value.what == "no container engine: podman is not installed; docker is not installed"
    assert "scripts/setup.sh" in said.value.hint

    put(machine, podman=NO_CONTAINER, docker=NO_DAEMON)
    with pytest.raises(KilnError) as said:
        engine.find(tmp_path)
    assert "podman cannot run a container: Error: no cgroups" in said.value.what
    assert "docker does not answer: Cannot connect to the Docker daemon" in said.value.what
    assert said.value.hint == "try, as root: podman info and docker info"

    monkeypatch.setenv(engine.CHOICE, "docker")
    with pytest.raises(KilnError) as said:
        engine.find(tmp_path)
    assert "podman" not in said.value.what
    assert said.value.hint == "try, as root: docker info; or unset KILN_ENGINE"


def test_what_docker_said_and_not_its_advice(machine: Path, tmp_path: Path) -> None:
    put(machine, podman=NO_CONTAINER, docker=REMOTE)
    with pytest.raises(KilnError) as said:
        engine.find(tmp_path)
    assert said.value.what.endswith("docker cannot run a container: docker: no such path")


def test_a_client_without_its_daemon_stops_no_sweep(machine: Path) -> None:
    put(machine, podman=RUNS, docker=NO_DAEMON)
    engine.remove_containers("0123456789ab")
    assert "label=kiln.run=0123456789ab" in calls(machine, "podman")
    assert "ps" not in calls(machine, "docker")


@pytest.mark.parametrize("name", ["podman", "docker"])
def test_a_container_that_stays_is_an_error(
    machine: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(machine, **{"podman": RUNS, "docker": RUNS, name: STAYS})
    # A sweep asks both, whichever is chosen for the next run.
    monkeypatch.setenv(engine.CHOICE, "docker" if name == "podman" else "podman")
    with pytest.raises(KilnError, match="container 0123456789ab cannot be removed") as said:
        engine.remove_containers("run")
    assert said.value.hint.startswith(f"run: {shutil.which(name)} rm --force")


def test_an_engine_that_cannot_say_is_an_error(machine: Path) -> None:
    put(machine, podman='case "$*" in ps*) echo "Error: database" >&2; exit 125;; *) echo 4;; esac')
    with pytest.raises(KilnError, match="podman cannot list containers: Error: database"):
        engine.remove_containers("run")
