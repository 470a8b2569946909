"""The disk as blocks, and the journal of what AWS has taken: without AWS."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiln.errors import KilnError
from launch import disk
from launch.journal import Journal, remove
from tests.aws import versions


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("disk") / "image.qcow2"
    versions.write_disk(path, [0, 1, 5, 8], 9, zeros=[3])
    return path


def test_every_block_is_what_was_written(image: Path) -> None:
    with disk.opened(image) as opened, opened.connect() as reader:
        assert (opened.blocks, opened.gib) == (9, 1)
        for index in range(9):
            wanted = {0, 1, 5}
            if index in wanted:
                assert reader.block(index) == versions.content(index)
            elif index == 8:
                assert reader.block(8) == versions.content(8)[: versions.TAIL].ljust(disk.BLOCK, b"\0")
            else:
                assert reader.block(index) == disk.ZERO


def test_blocks_that_the_image_knows_to_be_zeros_are_not_read(image: Path) -> None:
    with disk.opened(image) as opened:
        # Block 3 was written: that it is all zeros is found when it is read.
        assert [index for index, flag in enumerate(opened.candidates()) if flag] == [0, 1, 3, 5, 8]


def test_several_readers_side_by_side(image: Path) -> None:
    with disk.opened(image) as opened, opened.connect() as one, opened.connect() as other:
        assert one.block(0) == versions.content(0)
        assert other.block(1) == versions.content(1)
        assert one.block(5) == versions.content(5)


def test_no_server_is_left(image: Path) -> None:
    with disk.opened(image) as opened:
        socket = opened._socket
        assert str(socket) in _processes()
    assert str(socket) not in _processes()
    assert not socket.parent.exists()


def _processes() -> str:
    return subprocess.run(["ps", "-wweo", "args"], capture_output=True, text=True, check=True).stdout


def test_what_is_no_image_is_told_in_two_lines(tmp_path: Path) -> None:
    path = tmp_path / "image.qcow2"
    path.write_bytes(b"not an image" * 1000)
    with pytest.raises(KilnError, match="cannot be read") as raised, disk.opened(path):
        pass
    assert "\n" not in raised.value.what


def digest(index: int) -> bytes:
    return hashlib.sha256(b"%d" % index).digest()


def test_a_journal_is_read_again(tmp_path: Path) -> None:
    with Journal(tmp_path, "snap-1", 10) as journal:
        for index in (7, 2, 5):
            journal.add(index, digest(index))
    with Journal(tmp_path, "snap-1", 10) as journal:
        assert len(journal) == 3
        assert [index for index in range(10) if index in journal] == [2, 5, 7]
        assert list(journal.digests()) == [digest(2), digest(5), digest(7)]
        journal.add(0, digest(0))
    with Journal(tmp_path, "snap-1", 10) as journal:
        assert len(journal) == 4


def test_a_journal_of_another_snapshot_is_not_read(tmp_path: Path) -> None:
    with Journal(tmp_path, "snap-1", 10) as journal:
        journal.add(1, digest(1))
    with Journal(tmp_path, "snap-2", 10) as journal:
        assert len(journal) == 0
    remove(tmp_path, "snap-1")
    remove(tmp_path, "snap-1")
    with Journal(tmp_path, "snap-1", 10) as journal:
        assert len(journal) == 0


def test_a_journal_forgets(tmp_path: Path) -> None:
    with Journal(tmp_path, "snap-1", 10) as journal:
        journal.add(1, digest(1))
        journal.forget()
        assert len(journal) == 0
        journal.add(2, digest(2))
    with Journal(tmp_path, "snap-1", 10) as journal:
        assert list(journal.digests()) == [digest(2)]


@given(cut=st.integers(0, 74 * 3), rubbish=st.binary(max_size=200))
def test_a_line_half_written_is_not_believed(
    tmp_path_factory: pytest.TempPathFactory, cut: int, rubbish: bytes
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    with Journal(folder, "snap-1", 10) as journal:
        for index in range(3):
            journal.add(index, digest(index))
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:cut] + rubbish)
    with Journal(folder, "snap-1", 10) as journal:
        for index in range(3):
            if index < cut // 74:
                assert index in journal
        known = dict(zip((i for i in range(10) if i in journal), journal.digests(), strict=True))
        assert all(known[index] == digest(index) for index in known if index < cut // 74)
        journal.add(9, digest(9))
    with Journal(folder, "snap-1", 10) as journal:
        assert 9 in journal
