"""Two servers of the image on one studies folder, one of which is killed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kiln import paths
from scripts import layer
from tests.defects.campaign import sealed_root

pytestmark = [pytest.mark.slow, pytest.mark.root]

FILES = paths.ROOT / "ansible/roles/monai_label/files"
ACCOUNT = 10001
"""As the role's defaults have it: the studies are the service's."""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What `inside.py` says, and the studies as they were left, under ``studies``."""
    folder = tmp_path_factory.mktemp("server")
    place = folder / "layer"
    merged = layer.merged(place)
    opt = place / "upper/opt/monai-label"
    shutil.copytree(FILES, opt, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(__file__).with_name("inside.py"), opt / "inside.py")
    studies = folder / "studies"
    studies.mkdir()
    shutil.chown(studies, ACCOUNT, ACCOUNT)
    inside = (
        f"mount --bind {studies} {merged}/var/lib/monai-label/studies && mount --rbind /dev {merged}/dev &&"
        f" exec chroot --userspec={ACCOUNT}:{ACCOUNT} {merged} /usr/bin/env -i PATH=/usr/bin:/bin"
        " LANG=C.UTF-8 HOME=/var/lib/monai-label XDG_CACHE_HOME=/var/lib/monai-label/cache"
        " PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/var/lib/monai-label/cache/matplotlib"
        " /opt/monai-label/venv/bin/python /opt/monai-label/inside.py"
    )
    done = subprocess.run(
        layer.command(sealed_root(), place, ["sh", "-c", inside]),
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-8000:]
    return {**json.loads(done.stdout.splitlines()[-1]), "studies": studies}


def test_no_acknowledged_label_is_lost(said: Any) -> None:
    assert said["killed"] == -9
    assert {row[2] for row in said["acknowledged"]} == set("abcd")
    assert len(said["acknowledged"]) >= 100
    for where in ("known", "stock"):
        objects = said[where]["objects"]
        for image, tag, name, place in said["acknowledged"]:
            info = objects[image]["labels"][tag]["info"]
            assert (info["writer"], info["place"]) == (name, place), f"{where}: {image} {tag}"
            file = said["studies"] / "labels" / tag / f"{image}.nrrd"
            assert file.read_text().partition("\n\n")[2] == f"{name} {place}"


def test_a_stock_server_can_read_the_index(said: Any) -> None:
    assert said["stock_files"]
    assert sorted(said["stock"]["objects"]) == [*(f"image-{number}" for number in range(5)), "sent"]


def test_a_server_answers_with_what_its_peer_was_told(said: Any) -> None:
    assert (said["label"], said["noted"]["by"]) == ("first", "one")
    assert (said["replaced"], said["earlier"]) == ("second", ["first"])
    assert said["removed"] == 404
    assert said["sent"] == 200
    assert said["sample"]["id"] in said["known"]["objects"]
    sample = said["known"]["objects"][said["sample"]["id"]]
    assert sample["image"]["info"]["strategy"]["random"]["client_id"] == "me"


def test_names_that_lead_out_are_refused(said: Any) -> None:
    assert said["out"] == [400, 400, 400, 500]
    assert not list(said["studies"].parent.glob("out*"))


def test_sessions_are_shared(said: Any) -> None:
    assert said["session"] == "session"
    assert said["session_removed"] == 404


def test_a_background_task_uses_the_store(said: Any) -> None:
    assert said["task"][:3] == [200, "DONE", True], said["task"]


def test_nothing_is_left_over(said: Any) -> None:
    # The killed server's part is all that may be left, until it is swept.
    assert len(list(said["studies"].rglob(".kiln-*.part"))) <= 2
