"""Each role's scenario: on the cached base root, or where that would cost minutes on a baked one."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kiln import config, paths
from scripts import archive, base, coverage, driver, engine, inputs, mirrors

BIN = Path(sys.executable).parent
ON_BAKED = ("gateway", "monai_label")
"""Roles whose scenario starts from the root of the proven image."""
SHARED = paths.ROOT / ".config/molecule/config.yml"
SCENARIOS = sorted(path.parent.name for path in (paths.ROOT / "molecule").glob("*/molecule.yml"))


@pytest.fixture(scope="module")
def base_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base root that a bake starts from, out of its cache."""
    folder = tmp_path_factory.mktemp("base")
    tiny = config.load(paths.ROOT / "tests/fixtures/tiny/kiln.toml").image["tiny"]
    resolved = inputs.resolve("tiny", tiny, folder / "log")
    base.unpack(resolved.lock, resolved.inputs.tools, folder / "root", folder / "log", print)
    return folder / "root"


def lent(scenario: str, folder: Path) -> dict[str, Path]:
    """What the container of a scenario sees beside the lists: modules for nvidia, compiled as for a bake."""
    if scenario != driver.ROLE:
        return {}
    wanted = [inputs.packages(role) for role in ("base", driver.ROLE)]
    lock = archive.resolve(base.PACKAGES, wanted, folder / "log", driver.SOURCES)
    made = driver.make(lock, wanted[1], inputs.tools(), folder, folder / "log", print)
    return {**made, "nvidia_repository": paths.ROOT / "tests/fixtures/nvidia_repository"}


def baked_root() -> Path:
    """The root of the proven image: installing torch once more would cost minutes."""
    latest = paths.build_dir() / "monai-label/latest"
    assert latest.exists(), "there is no proven image: run make bake"
    return latest.resolve() / "root"


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario: str, base_root: Path, tmp_path: Path) -> None:
    root = baked_root() if scenario in ON_BAKED else base_root
    environment = {k: v for k, v in engine.find(root).environment().items() if k != "PYTHONDONTWRITEBYTECODE"}
    loan = mirrors.lend(tmp_path, archive.folder(), lent(scenario, tmp_path))
    command = [BIN / "molecule", "--base-config", SHARED, "test", "--scenario-name", scenario]
    with archive.hold():
        done = subprocess.run(
            command,
            env={
                **environment,
                **coverage.environment(),
                "PATH": f"{BIN}:{environment['PATH']}",
                "KILN_MOLECULE_ROOT": str(root),
                "KILN_MOLECULE_LOAN": json.dumps(dataclasses.asdict(loan)),
            },
            cwd=paths.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    # The recap says "successful" even where idempotence failed: the exit code does not.
    assert done.returncode == 0, done.stdout[-6000:]
    assert re.search(r"[1-9]\d* passed", done.stdout), "the scenario verified nothing"
    left = subprocess.run(
        ["findmnt", "--list", "--noheadings", "--output", "TARGET"], capture_output=True, text=True
    )
    assert f"kiln-molecule-{scenario}" not in left.stdout
    named = engine.find(root).call("ps", "--all", "--format", "{{.Names}}").stdout.split()
    assert f"kiln-molecule-{scenario}" not in named
