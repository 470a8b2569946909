"""Mistakes and bad luck, through the whole program: two lines, the right exit code, nothing left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kiln import paths
from tests.accidents.bakery import CONFIG, NOTHING, Bakery
from tests.unit import contract


@pytest.fixture
def bakery(tmp_path: Path) -> Bakery:
    return Bakery(tmp_path / "build")


def _two_lines(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    lines = done.stderr.strip().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("error:"))
    assert "Traceback" not in done.stderr
    assert len(lines[start:]) == 2, done.stderr
    return lines[start], lines[start + 1]


def _edited(tmp_path: Path, old: str, new: str) -> Path:
    folder = tmp_path / "config"
    shutil.copytree(CONFIG.parent, folder)
    text = CONFIG.read_text().replace("../../../packer", str(paths.ROOT / "packer"))
    assert old in text
    (folder / "kiln.toml").write_text(text.replace(old, new))
    return folder / "kiln.toml"


def test_unknown_key(bakery: Bakery, tmp_path: Path) -> None:
    done = bakery.kiln("bake", "tiny", config=_edited(tmp_path, "root_gb", "rot_gb"))
    what, fix = _two_lines(done)
    assert done.returncode == 2
    assert "rot_gb" in what and ":" in what
    assert "root_gb" in fix


def test_broken_toml(bakery: Bakery, tmp_path: Path) -> None:
    done = bakery.kiln("bake", "tiny", config=_edited(tmp_path, "root_gb = 8", "root_gb = = 8"))
    what, _ = _two_lines(done)
    assert done.returncode == 2
    assert "kiln.toml:9" in what


def test_unknown_image(bakery: Bakery) -> None:
    done = bakery.kiln("bake", "tinny")
    _, fix = _two_lines(done)
    assert done.returncode == 2
    assert "tiny" in fix


def test_version_that_does_not_exist(bakery: Bakery) -> None:
    there = contract.put(bakery.build)
    done = bakery.kiln("prove", "tiny@20000101T000000Z-00000000")
    what, fix = _two_lines(done)
    assert done.returncode == 2
    assert "20000101T000000Z-00000000" in what
    assert there.name in fix


def test_no_engine(bakery: Bakery, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for folder in reversed(os.environ["PATH"].split(":")):
        for program in Path(folder).glob("*") if folder else ():
            if program.name not in ("podman", "docker"):
                (tools / program.name).unlink(missing_ok=True)
                (tools / program.name).symlink_to(program)
    bakery.env["PATH"] = str(tools)
    done = bakery.kiln("bake", "tiny")
    what, fix = _two_lines(done)
    assert done.returncode == 1
    assert "podman is not installed; docker is not installed" in what
    assert "setup.sh" in fix
    assert bakery.left() == NOTHING


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    # The root fits in, a disk of it does not.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=800M", "kiln-test", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def test_disk_full_in_the_disk_stage(small_disk: Path) -> None:
    bakery = Bakery(small_disk / "build")
    done = bakery.kiln("bake", "tiny")
    what, fix = _two_lines(done)
    assert done.returncode == 1
    assert "disk …" in done.stderr, done.stderr
    assert "space" in what + fix or "room" in what + fix
    assert bakery.left() == NOTHING


def test_corrupted_base_is_noticed(bakery: Bakery, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / "base").mkdir(parents=True)
    for name in ("apt", "uv"):
        (cache / name).symlink_to(paths.cache_dir() / name)
    tars = sorted((paths.cache_dir() / "base").glob("*.tar"))
    assert tars, "bake something first: there is no cached base"
    for tar in tars:
        copy = cache / "base" / tar.name
        shutil.copy(tar, copy)
        shutil.copy(tar.with_suffix(".sha256"), copy.with_suffix(".sha256"))
        with copy.open("r+b") as stream:
            stream.seek(copy.stat().st_size // 2)
            byte = stream.read(1)
            stream.seek(-1, os.SEEK_CUR)
            stream.write(bytes([byte[0] ^ 1]))
    bakery.env["KILN_CACHE"] = str(cache)
    # Up to the next stage is enough: an error there ends the run.
    done = bakery.interrupt("packer", signal.SIGINT)
    assert "does not match its checksum" in done.stdout
    assert bakery.left() == NOTHING
