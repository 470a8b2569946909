"""What the comparison of two engines' roots refuses, and what it lets pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from kiln.errors import KilnError
from tests.benchmarks import bake_by_docker


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    made = (tmp_path / "docker", tmp_path / "podman")
    for number, root in enumerate(made):
        (root / "etc").mkdir(parents=True)
        (root / "etc/hostname").write_text("")
        (root / bake_by_docker.RELEASE).write_text(f"IMAGE=tiny\nVERSION={number}\nINPUT_DIGEST=abc\n")
    return made


def test_another_version_passes(roots: tuple[Path, Path]) -> None:
    bake_by_docker.equal(*roots)


def test_other_inputs_are_refused(roots: tuple[Path, Path]) -> None:
    release = roots[0] / bake_by_docker.RELEASE
    release.write_text(release.read_text().replace("abc", "def"))
    with pytest.raises(KilnError, match="INPUT_DIGEST=abc, INPUT_DIGEST=def"):
        bake_by_docker.equal(*roots)


def test_another_file_is_named(roots: tuple[Path, Path]) -> None:
    (roots[0] / ".dockerenv").touch()
    with pytest.raises(KilnError, match=r"the roots differ: Only in .*docker: \.dockerenv"):
        bake_by_docker.equal(*roots)


def test_another_mode_is_refused(roots: tuple[Path, Path]) -> None:
    (roots[0] / "etc/hostname").chmod(0o755)
    with pytest.raises(KilnError, match="the roots differ: modes"):
        bake_by_docker.equal(*roots)
