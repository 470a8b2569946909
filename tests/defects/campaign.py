"""The static checks over roots with planted defects: many in one layer, or each in a layer of its own."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kiln import config, paths
from kiln.manifest import Check
from scripts import checks, layer, versions
from tests.defects import rows
from tests.defects.defect import Defect, wrong

IMAGE = "monai-label"
"""The image whose rows boot a guest, too."""

IMAGES = (IMAGE, "slicer")
"""Every image with rows; those of a role are planted in the first image that has it."""


@dataclass(frozen=True)
class Run:
    """Defects that were planted together, and what came of every check."""

    planted: tuple[Defect, ...]
    checks: tuple[Check, ...]

    @property
    def refused(self) -> dict[str, str]:
        """Failed checks, without their parameters → what they said."""
        said: dict[str, list[str]] = {}
        for check in self.checks:
            if check.outcome == "failed":
                said.setdefault(name_of(check), []).append(check.message)
        return {name: " ".join(messages) for name, messages in said.items()}

    def verdict(self, row: Defect) -> str:
        """What is not as the row has it, empty where all is."""
        return wrong(row, self.refused, self.planted)


def name_of(check: Check) -> str:
    """Id of a check without parameters."""
    return check.id.partition("[")[0]


def sealed_root(image: str = IMAGE) -> Path:
    """The root of the proven image, or the one that KILN_ROOT names, for slicer KILN_ROOT_SLICER."""
    variable = "KILN_ROOT" if image == IMAGE else f"KILN_ROOT_{image.upper()}"
    if named := os.environ.get(variable):
        return Path(named).resolve()
    latest = paths.build_dir() / image / "latest"
    assert latest.exists(), f"there is no proven image {image}: run kiln bake {image}"
    return latest.resolve() / "root"


def images() -> dict[Path, list[str]]:
    """Root of each image → those of its roles that no image before it has."""
    found: dict[Path, list[str]] = {}
    for image in IMAGES:
        root = sealed_root(image)
        known = {role for roles_ in found.values() for role in roles_}
        found[root] = [role for role in roles(root) if role not in known]
    return found


def roles(root: Path) -> list[str]:
    """Check files of the image that has this root."""
    return checks.roles(versions.read(root.parent).facts)


def written(stage: checks.Stage, only: Iterable[str] | None = None) -> set[str]:
    """Ids of all checks of a stage that are written down, of these roles or of all."""
    files = (checks.CHECKS / stage).glob("test_*.py") if only is None else checks.files(stage, list(only))
    return {
        f"{stage}::{path.stem}::{part.name}"
        for path in files
        for part in ast.parse(path.read_text()).body
        if isinstance(part, ast.FunctionDef) and part.name.startswith("test_")
    }


def touched(root: Path, table: Iterable[Defect], folder: Path) -> dict[str, list[str]]:
    """Defect → paths that planting it touches, as seen."""
    program = [sys.executable, "-m", "tests.defects.plant", "--touched", str(root), str(folder / "touched")]
    names = [row.name for row in table]
    command = ["unshare", "--mount", "--propagation", "private", *program, *names]
    done = subprocess.run(command, cwd=paths.ROOT, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def collide(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two lists name the same path, or one a path below the other's."""
    return any(a == b or a.startswith(f"{b}/") or b.startswith(f"{a}/") for a in one for b in other)


def groups(table: Iterable[Defect], paths_of: Mapping[str, Sequence[str]]) -> list[tuple[Defect, ...]]:
    """Rows that can share a root: no check in common, and no path, so that none hides another."""
    found: list[list[Defect]] = []
    for row in table:
        for group in found:
            if not any(
                row.checks & other.checks or collide(paths_of[row.name], paths_of[other.name])
                for other in group
            ):
                group.append(row)
                break
        else:
            found.append([row])
    return [tuple(group) for group in found]


def check(root: Path, planted: Sequence[Defect], folder: Path) -> Run:
    """Run every static check of the image over a layer in which these defects were planted."""
    place = folder / "layer"
    merged = str(layer.merged(place))
    plant = [sys.executable, "-m", "tests.defects.plant", merged, *(row.name for row in planted)]
    subprocess.run(layer.command(root, place, plant), cwd=paths.ROOT, check=True)
    found = checks.run(
        "static", roles(root), folder / "junit.xml", folder / "log",
        env={"KILN_ROOT": merged, "KILN_VERSION": root.parent.name,
             "KILN_DEMAND": config.load().demand(versions.read(root.parent).image).model_dump_json()},
        wrap=layer.command(root, place, []),
    )  # fmt: skip
    return Run(tuple(planted), tuple(found))


def every_run(folder: Path, *, whole: bool) -> Iterator[Run]:
    """Plant every row in its image, apart from each other or in a few groups, and check each root."""
    for number, (root, asked) in enumerate(images().items()):
        yield from runs(root, asked, folder / f"image-{number}", whole=whole)


def runs(root: Path, asked: Sequence[str], folder: Path, *, whole: bool) -> Iterator[Run]:
    """Plant all rows of some roles of an image, and check each root."""
    folder.mkdir(parents=True, exist_ok=True)
    table = [row for role in asked for row in getattr(rows.ROLES.get(role), "STATIC", [])]
    together = [(row,) for row in table] if whole else groups(table, touched(root, table, folder))

    def one(number: int) -> Run:
        mine = folder / str(number)
        mine.mkdir(parents=True)
        return check(root, together[number], mine)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(one, range(len(together)))
