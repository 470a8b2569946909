"""The module that writes files, folders and links: each kind, and nothing the second time."""

from __future__ import annotations

import getpass
import stat
from pathlib import Path

import pytest

from tests.unit.test_seal_tree import load

write_tree = load("write_tree")

ME = getpass.getuser()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_file_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/file"
    assert write_tree.file(path, "a\n", ME, "0640")
    assert (path.read_text(), mode(path)) == ("a\n", 0o640)
    assert not write_tree.file(path, "a\n", ME, "0640")
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("content", "wanted"), [("b\n", "0640"), ("a\n", "0600")])
def test_difference_is_a_change(tmp_path: Path, content: str, wanted: str) -> None:
    path = tmp_path / "file"
    write_tree.file(path, "a\n", ME, "0640")
    assert write_tree.file(path, content, ME, wanted)
    assert (path.read_text(), mode(path)) == (content, int(wanted, 8))


def test_link_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("keep\n")
    (tmp_path / "link").symlink_to("target")
    assert write_tree.file(tmp_path / "link", "a\n", ME, "0644")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "keep\n"


def test_folder_keeps_its_setgid_bit(tmp_path: Path) -> None:
    assert write_tree.folder(tmp_path / "a/b", ME, "2770")
    assert mode(tmp_path / "a/b") == 0o2770
    assert not write_tree.folder(tmp_path / "a/b", ME, "2770")


def test_what_is_mounted_on_a_folder_keeps_its_owner_and_mode() -> None:
    # Its mode is 0555: a folder that were given another would say so.
    assert Path("/proc").is_mount()
    assert not write_tree.folder(Path("/proc"), "root", "0000")
    assert mode(Path("/proc")) == 0o555


def test_absent_is_removed_once(tmp_path: Path) -> None:
    (tmp_path / "folder/deep").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "file").write_text("")
    for name in ("folder", "link", "file"):
        assert write_tree.gone(tmp_path / name)
        assert not write_tree.gone(tmp_path / name)
    assert list(tmp_path.iterdir()) == [tmp_path / "kept"]


def test_glob_names_folders_before_what_is_in_them(tmp_path: Path) -> None:
    (tmp_path / "a/tests/deep/tests").mkdir(parents=True)
    (tmp_path / "a/testing").mkdir()
    (tmp_path / "out").symlink_to("a")
    found = write_tree.named(f"{tmp_path}/**/tests")
    assert found == [tmp_path / "a/tests", tmp_path / "a/tests/deep/tests"]
    assert [write_tree.gone(path) for path in found] == [True, False]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "out", "testing"]


def test_path_without_wildcards_stands_for_itself(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert write_tree.named(f"{tmp_path}/link") == [tmp_path / "link"]
    assert write_tree.gone(tmp_path / "link")


def test_link_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "wants/unit"
    assert write_tree.link(path, "/dev/null")
    assert not write_tree.link(path, "/dev/null")
    assert write_tree.link(path, "/elsewhere")
    assert str(path.readlink()) == "/elsewhere"
