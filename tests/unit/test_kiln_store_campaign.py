"""Whether the campaign of labels sees what is lost, also of what another client has replaced."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from kiln import paths
from tests.server import campaign

sys.path.insert(0, str(paths.ROOT / "ansible/roles/monai_label/files"))

from kiln_store.store import Store

OWN = "w0-0"


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    (folder / "image-3.nii.gz").write_bytes(b"image")
    return folder


def saved(studies: Path) -> campaign.Said:
    """A label of a client's own, and one that three clients have saved in turn."""
    said, source = campaign.Said(), studies.parent / "label.nrrd"
    for writer, tag in (("w0", OWN), *((f"w{number}", campaign.EVERYONE) for number in range(3))):
        source.write_bytes(campaign.body(writer, 3))
        Store(studies).save_label("image-3", tag, source, ".nrrd", {"writer": writer, "place": 3})
        checksum = hashlib.sha256(source.read_bytes()).hexdigest()
        said.acknowledged.append(campaign.Saved("image-3", tag, writer, 3, checksum))
    return said


def lost(said: campaign.Said, studies: Path) -> list[list[tuple[str, str]]]:
    """Tag and writer of what is not there, and of what something noted is not."""
    found = campaign.lost(said, studies, campaign.written(studies))
    return [[(one.tag, one.writer) for one in part] for part in found]


def test_what_was_replaced_is_not_lost(studies: Path) -> None:
    assert lost(saved(studies), studies) == [[], []]


def test_a_replaced_label_that_is_gone_is_lost(studies: Path) -> None:
    said = saved(studies)
    first = sorted((studies / ".kiln-store/earlier/everyone/image-3").glob("*.nrrd"))
    by = {path.read_bytes(): path for path in first}
    by[campaign.body("w1", 3)].unlink()
    assert lost(said, studies) == [[("everyone", "w1")]] * 2


def test_what_was_noted_of_a_replaced_label_is_looked_at(studies: Path) -> None:
    said = saved(studies)
    for path in (studies / ".kiln-store/earlier/everyone/image-3").glob("*.json"):
        path.write_text(path.read_text().replace('"w0"', '"w9"'))
    assert lost(said, studies) == [[], [("everyone", "w0")]]


def test_a_label_of_ones_own_may_not_be_an_earlier_version(studies: Path) -> None:
    said = saved(studies)
    source = studies.parent / "label.nrrd"
    Store(studies).save_label("image-3", OWN, source, ".nrrd", {"writer": "w0", "place": 3})
    assert lost(said, studies) == [[(OWN, "w0")], []]
