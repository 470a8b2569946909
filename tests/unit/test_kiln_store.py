"""The shared store, by real processes on a real folder: killed, racing, and with its safeguards taken out."""

from __future__ import annotations

import errno
import fcntl
import functools
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kiln import paths

FILES = paths.ROOT / "ansible/roles/monai_label/files"
sys.path.insert(0, str(FILES))

from kiln_store import earlier, store  # noqa: E402
from kiln_store.errors import MissingError, RefusedError, StoreError  # noqa: E402
from kiln_store.index import Index  # noqa: E402
from kiln_store.lock import Lock, Record, check_mount  # noqa: E402
from kiln_store.store import Store  # noqa: E402
from kiln_store.tree import Tree  # noqa: E402

SEED = 20240101
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(FILES), "PYTHONDONTWRITEBYTECODE": "1"}


def command(*words: str | Path | int) -> list[str]:
    return [sys.executable, "-m", "kiln_store", *map(str, words)]


def said(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def run(*words: str | Path | int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), env=ENVIRONMENT, capture_output=True, text=True)


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """A folder with four images that were copied there, and no index yet."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for number in range(4):
        (folder / f"image-{number}.nii.gz").write_bytes(b"image")
    return folder


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, where a thousand saves are quick: a kill takes nothing that was written from it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def label(tmp_path: Path) -> Callable[[str], Path]:
    numbers = itertools.count()

    def make(text: str, ext: str = ".nii.gz") -> Path:
        path = tmp_path / f"label-{next(numbers)}{ext}"
        path.write_text(text)
        return path

    return make


def kept(studies: Path) -> dict[tuple[str, str], list[bytes]]:
    """Image and tag → earlier versions, the oldest first."""
    found: dict[tuple[str, str], list[bytes]] = {}
    with Tree(studies) as look:
        for version in earlier.versions(look):
            found.setdefault((version.image, version.tag), []).append((studies / version.path).read_bytes())
    return found


def parts(studies: Path) -> list[Path]:
    return sorted(studies.rglob(".kiln-*.part"))


# What a save is


def test_a_label_and_what_is_noted_of_it(studies: Path, label: Any) -> None:
    saved = Store(studies).save_label("image-1", "final", label("one"), ".nii.gz", {"by": "me", "odd": {1}})
    assert (studies / "labels/final/image-1.nii.gz").read_text() == "one"
    found = Store(studies).index().label("image-1", "final")
    assert found == saved
    assert found["info"]["by"] == "me"
    assert found["info"]["odd"] == "{1}"
    assert found["info"]["name"] == "image-1.nii.gz"
    assert abs(found["info"]["ts"] - time.time()) < 60
    assert parts(studies) == []


def test_a_replaced_label_is_kept_with_what_was_noted_of_it(studies: Path, label: Any) -> None:
    one = Store(studies)
    one.save_label("image-1", "final", label("first"), ".nii.gz", {"by": "a"})
    one.save_label("image-1", "final", label("second"), ".nii.gz", {"by": "b"})
    one.save_label("image-1", "final", label("third"), ".nrrd", {"by": "c"})
    assert (studies / "labels/final/image-1.nrrd").read_text() == "third"
    assert not (studies / "labels/final/image-1.nii.gz").exists()
    assert sorted(kept(studies)["image-1", "final"]) == [b"first", b"second"]
    with Tree(studies) as look:
        noted = {
            (studies / version.path).read_text(): earlier.entry(look, version)["info"]["by"]
            for version in earlier.versions(look)
        }
    assert noted == {"first": "a", "second": "b"}
    one.remove_label("image-1", "final")
    assert sorted(kept(studies)["image-1", "final"]) == [b"first", b"second", b"third"]


@pytest.mark.root
def test_what_root_makes_is_the_owners(studies: Path, label: Any) -> None:
    os.chown(studies, 10001, 10002)
    one = Store(studies)
    one.save_label("image-1", "final", label("a"), ".nii.gz", {})
    one.save_label("image-1", "final", label("b"), ".nii.gz", {})
    made = [
        path for path in studies.rglob("*") if not path.name.startswith("image-") or "labels" in path.parts
    ]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(10001, 10002)}
    assert len(made) > 8


def test_an_earlier_version_is_brought_back(studies: Path, label: Any) -> None:
    one = Store(studies)
    one.save_label("image-1", "final", label("first"), ".nii.gz", {"by": "a"})
    one.save_label("image-1", "final", label("second"), ".nii", {"by": "b"})
    rows = [json.loads(line) for line in run("list", studies).stdout.splitlines()]
    (old,) = [row for row in rows if not row["current"]]
    assert said(run("restore", studies, old["path"]))["info"]["by"] == "a"
    assert (studies / "labels/final/image-1.nii.gz").read_text() == "first"
    assert sorted(kept(studies)["image-1", "final"]) == [b"first", b"second"]
    done = run("restore", studies, "../outside")
    assert (done.returncode, done.stderr.count("\n")) == (1, 2)
    assert "is no earlier version of a label\n  fix: " in done.stderr


def test_a_label_is_not_written_in_its_place(studies: Path, label: Any) -> None:
    one = Store(studies)
    one.save_label("image-1", "final", label("first"), ".nii.gz", {})
    with (studies / "labels/final/image-1.nii.gz").open() as held:
        one.save_label("image-1", "final", label("second"), ".nii.gz", {})
        assert held.read() == "first"


def test_a_removed_label_stays_removed(studies: Path, label: Any) -> None:
    one, other = Store(studies), Store(studies)
    one.save_label("image-1", "final", label("x"), ".nii.gz", {})
    assert other.index().label("image-1", "final")
    assert one.remove_label("image-1", "final")
    assert not one.remove_label("image-1", "final")
    # The other's memory still has the label; nothing that it does may bring it back.
    other.save_label("image-2", "final", label("y"), ".nii.gz", {})
    other.note_image("image-1", {"seen": 1})
    assert other.reconcile() == 0 or other.index().label("image-1", "final") is None
    assert Store(studies).index().label("image-1", "final") is None


def test_tags_of_an_image_are_merged(studies: Path, label: Any) -> None:
    one, other = Store(studies), Store(studies)
    one.reconcile()
    assert one.index() and other.index()
    one.save_label("image-1", "final", label("f"), ".nii.gz", {"by": "one"})
    other.save_label("image-1", "original", label("o"), ".nii.gz", {"by": "other"})
    one.note_label("image-1", "original", {"score": 1})
    other.note_label("image-1", "final", {"score": 2})
    labels = Store(studies).index().objects["image-1"]["labels"]
    assert {tag: (v["info"]["by"], v["info"]["score"]) for tag, v in labels.items()} == {
        "final": ("one", 2),
        "original": ("other", 1),
    }


def test_images_come_and_go(studies: Path, label: Any) -> None:
    one, other = Store(studies), Store(studies)
    one.add_image("new", label("i"), ".nii.gz", {"a": 1})
    one.save_label("new", "final", label("l"), ".nii.gz", {})
    other.add_image("new", label("j"), ".nii", {"b": 2})
    assert not (studies / "new.nii.gz").exists()
    found = one.index().objects["new"]
    assert found["image"]["info"]["b"] == 2
    assert "final" in found["labels"]
    other.remove_image("new")
    assert "new" not in one.index().objects
    assert not (studies / "new.nii").exists()
    assert not (studies / "labels/final/new.nii.gz").exists()
    assert kept(studies) == {("new", "final"): [b"l"]}
    with pytest.raises(MissingError, match="no image 'new'\n  fix: "):
        one.remove_image("new")


def test_an_image_that_was_just_copied_there_can_be_labelled(studies: Path, label: Any) -> None:
    one = Store(studies)
    one.reconcile()
    (studies / "late.nii.gz").write_bytes(b"")
    one.save_label("late", "final", label("x"), ".nii.gz", {})
    assert one.index().label("late", "final")
    with pytest.raises(MissingError):
        one.save_label("never", "final", label("x"), ".nii.gz", {})
    assert parts(studies) == []


def test_what_changes_nothing_writes_nothing(studies: Path, label: Any) -> None:
    one = Store(studies)
    one.reconcile()
    one.note_image("image-1", {"a": {"b": 1}})
    before = (studies / "datastore_v2.json").stat()
    one.note_image("image-1", {"a": {"b": 1}})
    one.reconcile()
    one.change(lambda index: index)
    after = (studies / "datastore_v2.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_next_samples_write_only_what_is_news(studies: Path) -> None:
    one = Store(studies)
    one.reconcile()
    file = studies / "datastore_v2.json"
    one.note_image("image-1", {"strategy": {"random": {"ts": 1000, "client_id": "a"}}})
    before = file.read_bytes()
    one.note_image("image-1", {"strategy": {"random": {"ts": 1030, "client_id": "a"}}})
    assert file.read_bytes() == before
    for note in ({"ts": 1031, "client_id": "b"}, {"ts": 1100, "client_id": "b"}):
        one.note_image("image-1", {"strategy": {"random": note}})
        assert one.index().objects["image-1"]["image"]["info"]["strategy"]["random"] == note
    # Another server's note of another strategy, made from what it had read before.
    Store(studies).note_image(
        "image-1", {"strategy": {"random": {"ts": 1000, "client_id": "a"}, "first": {"ts": 1101}}}
    )
    strategy = one.index().objects["image-1"]["image"]["info"]["strategy"]
    assert strategy == {"random": {"ts": 1100, "client_id": "b"}, "first": {"ts": 1101}}


def test_files_that_came_or_went_by_hand(studies: Path, label: Any) -> None:
    one = Store(studies)
    assert one.reconcile() == 4
    one.save_label("image-0", "final", label("x"), ".nii.gz", {"by": "me"})
    one.save_label("image-1", "final", label("x"), ".nii.gz", {"by": "me"})
    (studies / "labels/mine").mkdir()
    for path in (
        "more.nrrd",
        ".hidden.nii.gz",
        "labels/mine/image-0.nii",
        "labels/mine/nobody.nii",
        "note.txt",
    ):
        (studies / path).write_text("")
    (studies / "labels/final/image-1.nii.gz").unlink()
    (studies / "image-3.nii.gz").unlink()
    assert one.reconcile() == 4
    objects = Store(studies).index().objects
    assert sorted(objects) == ["image-0", "image-1", "image-2", "more"]
    assert sorted(objects["image-0"]["labels"]) == ["final", "mine"]
    assert objects["image-0"]["labels"]["final"]["info"]["by"] == "me"
    assert objects["image-1"]["labels"] == {}


STOCK = {
    "name": "spleen", "description": "of ours", "images_dir": ".", "labels_dir": "labels",
    "objects": {
        "image-1": {
            "image": {"ext": ".nii.gz", "info": {"ts": 1, "strategy": {"random": {"ts": 2}}}},
            "labels": {"final": {"ext": ".nii.gz", "info": {"ts": 3, "name": "image-1.nii.gz", "by": "you"}}},
        }
    },
    "later": {"field": 1},
}  # fmt: skip


def test_an_existing_index_is_taken_over(studies: Path, label: Any) -> None:
    (studies / "labels/final").mkdir(parents=True)
    (studies / "labels/final/image-1.nii.gz").write_text("old")
    (studies / "datastore_v2.json").write_text(json.dumps(STOCK, indent=2))
    one = Store(studies)
    assert one.reconcile() == 3
    one.save_label("image-1", "original", label("x"), ".nii.gz", {})
    found = json.loads((studies / "datastore_v2.json").read_text())
    assert found["name"] == "spleen"
    assert found["later"] == {"field": 1}
    assert found["objects"]["image-1"]["labels"]["final"] == STOCK["objects"]["image-1"]["labels"]["final"]  # type: ignore[index]
    assert found["objects"]["image-1"]["image"] == STOCK["objects"]["image-1"]["image"]  # type: ignore[index]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"objects": []}',
        '{"objects": {"a": 1}}',
        '{"name": 1, "description": "", "objects": {}}',
    ],
)
def test_a_damaged_index_is_not_written_over(studies: Path, label: Any, text: str) -> None:
    (studies / "datastore_v2.json").write_text(text)
    with pytest.raises(StoreError, match=r"is not an index of studies: .*\n  fix: restore it"):
        Store(studies).save_label("image-1", "final", label("x"), ".nii.gz", {})
    assert (studies / "datastore_v2.json").read_text() == text
    assert parts(studies) == []


# What leads out of the folder


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a/b", "../a", "/etc/passwd", "a\0b", ".kiln-store", "a\n", "x" * 300, "\udc80"]
)
def test_names_that_lead_out_are_refused(studies: Path, label: Any, name: str) -> None:
    one = Store(studies)
    one.reconcile()
    before = sorted(path for path in studies.parent.rglob("*") if "label-" not in path.name)
    file = label("x")
    for work in (
        lambda: one.save_label(name, "final", file, ".nii.gz", {}),
        lambda: one.save_label("image-1", name, file, ".nii.gz", {}),
        lambda: one.add_image(name, file, ".nii.gz", {}),
        lambda: one.remove_label(name, "final"),
        lambda: one.remove_label("image-1", name),
        lambda: one.remove_image(name),
    ):
        with pytest.raises(RefusedError, match="\n  fix: "):
            work()
    assert sorted(path for path in studies.parent.rglob("*") if "label-" not in path.name) == before


@pytest.mark.parametrize("ext", ["/../../x", ".nii/../..", "..", ". ", ".a\0", "." + "x" * 40])
def test_extensions_that_lead_out_are_refused(studies: Path, label: Any, ext: str) -> None:
    with pytest.raises(RefusedError):
        Store(studies).save_label("image-1", "final", label("x"), ext, {})
    with pytest.raises(RefusedError):
        Store(studies).add_image("a", label("x"), ext, {})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("labels_dir", "../outside"),
        ("labels_dir", "/tmp"),
        ("images_dir", "a/../.."),
        ("labels_dir", ".kiln-store"),
    ],
)
def test_an_index_that_leads_out_is_refused(studies: Path, label: Any, field: str, value: str) -> None:
    (studies / "datastore_v2.json").write_text(json.dumps({**STOCK, field: value}))
    with pytest.raises(RefusedError, match=f"as {field} leads out"):
        Store(studies).save_label("image-1", "final", label("x"), ".nii.gz", {})


@pytest.mark.parametrize("ext", ["/../../outside", "/../outside"])
def test_an_entry_that_leads_out_removes_nothing(studies: Path, ext: str) -> None:
    (studies.parent / "outside").write_text("x")
    poisoned = json.loads(json.dumps(STOCK))
    poisoned["objects"]["image-1"]["image"]["ext"] = ext
    poisoned["objects"]["image-1"]["labels"]["final"]["ext"] = ext
    (studies / "datastore_v2.json").write_text(json.dumps(poisoned))
    one = Store(studies)
    for work in (lambda: one.remove_image("image-1"), one.reconcile):
        with pytest.raises(RefusedError):
            work()
    assert one.remove_label("image-1", "final")
    assert (studies.parent / "outside").exists()


def test_a_record_that_leads_out_is_not_followed(studies: Path, label: Any) -> None:
    (studies.parent / "outside").write_text("x")
    one = Store(studies)
    one.reconcile()
    data = (studies / "datastore_v2.json").read_bytes()
    (studies / "index.part").write_bytes(data + b"\n")
    record = Record(
        store.digest(data),
        store.digest(data + b"\n"),
        [["../outside", "image-9.nii.gz"], ["index.part", "datastore_v2.json"]],
    )
    (studies / ".kiln-store/lock").write_bytes(record.dump())
    with pytest.raises(RefusedError):
        one.save_label("image-1", "final", label("x"), ".nii.gz", {})
    assert (studies.parent / "outside").exists()


def test_links_out_of_the_folder_are_not_followed(studies: Path, label: Any) -> None:
    outside = studies.parent / "outside"
    outside.mkdir()
    (outside / "image-1.nii.gz").write_text("precious")
    (studies / "labels/final").mkdir(parents=True)
    (studies / "labels/final/image-1.nii.gz").symlink_to(outside / "image-1.nii.gz")
    (studies / "labels/mine").symlink_to(outside)
    one = Store(studies)
    one.save_label("image-1", "final", label("x"), ".nii.gz", {})
    assert not (studies / "labels/final/image-1.nii.gz").is_symlink()
    with pytest.raises(RefusedError, match="symbolic link"):
        one.save_label("image-1", "mine", label("x"), ".nii.gz", {})
    assert [path.name for path in outside.iterdir()] == ["image-1.nii.gz"]
    assert (outside / "image-1.nii.gz").read_text() == "precious"


# The lock


def test_whoever_waits_too_long_is_told(studies: Path, label: Any) -> None:
    one = Store(studies, wait=0.2)
    one.reconcile()
    with (studies / ".kiln-store/lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match=r"was held by others for 0.2 s\n  fix: save again"):
            one.save_label("image-1", "final", label("x"), ".nii.gz", {})
        assert one.index().label("image-1", "final") is None
    assert parts(studies) == []
    one.save_label("image-1", "final", label("x"), ".nii.gz", {})


def test_the_lock_of_a_killed_holder_is_free(studies: Path, label: Any) -> None:
    program = "import sys, time; from pathlib import Path; from kiln_store.lock import Lock\n"
    program += "with Lock(Path(sys.argv[1])).held(): print('held', flush=True); time.sleep(600)"
    holder = subprocess.Popen(
        [sys.executable, "-c", program, studies], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StoreError), Lock(studies, 0.1).held():
        pass
    holder.kill()
    holder.wait()
    Store(studies, wait=5).save_label("image-1", "final", label("x"), ".nii.gz", {})


def test_a_lock_file_that_was_removed_locks_nobody_out(studies: Path, label: Any) -> None:
    """Who waits on a file that has gone meanwhile takes the new one: two would hold a lock each."""
    first, second = Lock(studies, 5), Lock(studies, 0.2)
    with first.held():
        (studies / ".kiln-store/lock").unlink()
        with second.held(), pytest.raises(StoreError), Lock(studies, 0.2).held():
            pass


def test_a_lost_lock_changes_nothing(studies: Path, label: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Store(studies)
    one.save_label("image-1", "final", label("old"), ".nii.gz", {})
    before = (studies / "datastore_v2.json").read_bytes()
    noted = (studies / ".kiln-store/lock").read_bytes()

    def lost(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        # As NFS answers a write to a file whose lock the server has given to another.
        patch.setattr("kiln_store.lock.put", lost)
        with pytest.raises(StoreError, match="was lost: Input/output error\n  fix: save again"):
            one.save_label("image-1", "final", label("new"), ".nii.gz", {})
    assert (studies / "datastore_v2.json").read_bytes() == before
    assert (studies / "labels/final/image-1.nii.gz").read_text() == "old"
    assert parts(studies) == []
    # It may be another's by now.
    assert (studies / ".kiln-store/lock").read_bytes() == noted


def half(studies: Path, label: Any, step: str) -> Store:
    """A save of "new" over "old", cut off at a step; the store that is returned knows nothing of it."""
    one = Store(studies)
    one.reconcile()
    one.save_label("image-1", "final", label("old"), ".nii.gz", {"by": "old"})
    real, left = os.rename, [step]

    def cut(source: str, target: str, **options: Any) -> None:
        if left and target == left[0]:
            raise KeyboardInterrupt
        real(source, target, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", cut)
        with pytest.raises(KeyboardInterrupt):
            one.save_label("image-1", "final", label("new"), ".nii.gz", {"by": "new"})
    return Store(studies)


def by(one: Store) -> tuple[str, str]:
    """What is noted of the label, and its file, once somebody has held the lock."""
    one.note_image("image-2", {"looked": random.random()})
    noted = one.index().objects["image-1"]["labels"]["final"]["info"]["by"]
    return noted, (one.root / "labels/final/image-1.nii.gz").read_text()


@pytest.mark.parametrize("defect", [False, True])
def test_a_power_cut_that_keeps_one_of_two_moves_keeps_both_in_the_end(
    studies: Path, label: Any, monkeypatch: pytest.MonkeyPatch, defect: bool
) -> None:
    """Moves into two folders are made durable at once: the index may be the one that is kept."""
    other = half(studies, label, "image-1.nii.gz")
    record = Record.parse((studies / ".kiln-store/lock").read_bytes().partition(b"\n")[0])
    assert record
    part, index = record.moves[-1]
    (studies / part).rename(studies / index)
    if defect:
        monkeypatch.setattr(Store, "_left", lambda *_: [])
    assert by(other) == ("new", "old" if defect else "new")
    assert parts(studies) == [] or defect


@pytest.mark.parametrize("torn", [b"", b"{", None], ids=["empty", "half", "gone"])
def test_a_record_whose_index_is_not_whole_means_nothing(
    studies: Path, label: Any, monkeypatch: pytest.MonkeyPatch, torn: bytes | None
) -> None:
    """Both are written at once: a power cut may keep the record alone."""
    monkeypatch.setattr(store, "LOOKS", (0.0, 0.01))
    other = half(studies, label, "image-1.nii.gz")
    (part,) = studies.glob(".kiln-*.part")
    if torn is None:
        part.unlink()
    else:
        part.write_bytes(torn)
    assert by(other) == ("old", "old")


def test_what_was_put_there_by_hand_after_a_removal_is_not_taken_for_a_rest_of_it(
    studies: Path, label: Any
) -> None:
    one = Store(studies)
    one.save_label("image-1", "final", label("old"), ".nii.gz", {})
    one.remove_label("image-1", "final")
    (studies / "labels/final/image-1.nii.gz").write_text("by hand")
    one.reconcile()
    assert (studies / "labels/final/image-1.nii.gz").read_text() == "by hand"
    assert one.index().label("image-1", "final")


def test_a_disk_that_is_full_leaves_no_record_to_wait_for(
    studies: Path, label: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Store(studies)
    one.reconcile()
    one.save_label("image-1", "final", label("old"), ".nii.gz", {"by": "old"})
    real = os.fsync

    def full(file: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{file}"))
        if path.parent == studies and path.suffix == ".part":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            one.save_label("image-1", "final", label("new"), ".nii.gz", {"by": "new"})
    assert parts(studies) == []
    assert (studies / ".kiln-store/lock").read_bytes() == b""
    assert by(one) == ("old", "old")


def test_an_index_read_line_by_line_is_the_one_that_is_read_whole(studies: Path, label: Any) -> None:
    one = Store(studies)
    one.reconcile()
    old = one.index()
    for number in range(3):
        one.save_label(f"image-{number}", "final", label("x"), ".nii.gz", {"by": "ä\n,\n{"})
    raw = (studies / "datastore_v2.json").read_bytes()
    found = Index.parse(raw, old=old)
    assert found.document == Index.parse(raw).document == json.loads(raw)
    # What has not changed is not made anew, and what has is not taken over.
    assert [found.objects[image] is old.objects[image] for image in sorted(found.objects)] == [
        False, False, False, True,
    ]  # fmt: skip
    assert (
        found.with_label("image-3", "final", {"ext": "", "info": {}}).data
        == Index.parse(raw).with_label("image-3", "final", {"ext": "", "info": {}}).data
    )
    for damaged in (raw[:-1], raw[:-2], raw.replace(b"}},", b"}", 1), raw.replace(b'"ext"', b'"ext', 1)):
        same = json.loads(damaged) if damaged == raw[:-1] else None
        if same is not None:
            assert Index.parse(damaged, old=old).document == same
            continue
        with pytest.raises(StoreError, match="is not an index"):
            Index.parse(damaged, old=old)
    empty = Index.parse(None)
    assert Index.parse(empty.data, old=old).objects == {}


def test_a_stale_handle_is_opened_again(studies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(studies).reconcile()
    left = [errno.ESTALE] * 3
    real = os.open

    def stale(path: Any, *arguments: Any, **options: Any) -> int:
        if path == "datastore_v2.json" and left:
            raise OSError(left.pop(), "stale")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", stale)
    assert sorted(Store(studies).index().objects) == [f"image-{number}" for number in range(4)]
    assert left == []
    left.extend([errno.ESTALE] * 99)
    with pytest.raises(OSError, match="stale"):
        Store(studies).index()


def test_a_save_that_meets_a_stale_handle_begins_anew(
    studies: Path, label: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Store(studies)
    one.reconcile()
    real = os.rename
    left = ["datastore_v2.json", "image-1.nii.gz"]

    def stale(source: str, target: str, **options: Any) -> None:
        if left and target == left[-1]:
            raise OSError(errno.ESTALE, f"stale: {left.pop()}")
        real(source, target, **options)

    monkeypatch.setattr(os, "rename", stale)
    one.save_label("image-1", "final", label("x"), ".nii.gz", {"by": "me"})
    assert left == []
    assert one.index().objects["image-1"]["labels"]["final"]["info"]["by"] == "me"
    assert (studies / "labels/final/image-1.nii.gz").read_text() == "x"
    assert parts(studies) == []


def test_an_index_older_than_the_record_is_looked_at_again(
    studies: Path, label: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a mount answers from its memory what a peer has replaced."""
    one = Store(studies)
    one.reconcile()
    old = (studies / "datastore_v2.json").read_bytes()
    Store(studies).save_label("image-1", "final", label("x"), ".nii.gz", {})
    stale = [old, old]
    real = Tree.read
    monkeypatch.setattr(
        Tree,
        "read",
        lambda self, path: stale.pop() if stale and path == "datastore_v2.json" else real(self, path),
    )
    one.note_image("image-2", {"a": 1})
    assert stale == []
    assert one.index().label("image-1", "final")


def test_the_index_of_a_stock_server_counts(studies: Path, label: Any) -> None:
    one = Store(studies)
    one.reconcile()
    (studies / "datastore_v2.json").write_text(json.dumps({**STOCK, "name": "theirs"}))
    one.save_label("image-1", "mine", label("x"), ".nii.gz", {})
    found = Store(studies).index()
    assert found.document["name"] == "theirs"
    assert sorted(found.objects["image-1"]["labels"]) == ["final", "mine"]


MOUNT = "30 1 {device} / /srv/studies rw shared:1 - {kind} fs-1:/ rw,vers=4.1,{option},hard"


@pytest.mark.parametrize(
    ("kind", "option", "refused"),
    [
        ("nfs4", "local_lock=none", False),
        ("nfs4", "local_lock=all", True),
        ("nfs4", "local_lock=flock", True),
        ("nfs", "nolock", True),
        ("ext4", "local_lock=all", False),
    ],
)
def test_a_share_whose_locks_are_the_machines_own_is_refused(
    studies: Path, kind: str, option: str, refused: bool
) -> None:
    device = studies.stat().st_dev
    mounts = studies.parent / "mountinfo"
    number = f"{os.major(device)}:{os.minor(device)}"
    mounts.write_text(
        MOUNT.format(device="0:99", kind="nfs4", option="nolock")
        + "\n"
        + MOUNT.format(device=number, kind=kind, option=option)
    )
    if not refused:
        check_mount(studies, mounts)
        return
    with pytest.raises(StoreError, match=rf"is mounted with {option}: .*\n  fix: mount it by NFS 4.1"):
        check_mount(studies, mounts)


# What is left over


def test_an_index_that_loses_entries_is_kept(studies: Path, label: Any) -> None:
    """As where the images are on a mount of their own that is not there."""
    one = Store(studies)
    one.save_label("image-1", "final", label("x"), ".nii.gz", {"by": "me"})
    one.reconcile()
    before = (studies / "datastore_v2.json").read_bytes()
    (studies / "image-1.nii.gz").rename(studies.parent / "away")
    one.reconcile()
    assert "image-1" not in one.index().objects
    kept_indexes = list((studies / ".kiln-store/indexes").iterdir())
    assert [path.read_bytes() for path in kept_indexes] == [before]
    old = kept_indexes[0].with_name("20200101T000000Z_00000000.json")
    old.write_text("{}")
    one.sweep()
    assert list((studies / ".kiln-store/indexes").iterdir()) == kept_indexes


def test_what_is_old_goes(studies: Path, label: Any) -> None:
    one = Store(studies, days=1)
    one.save_label("image-1", "final", label("a"), ".nii.gz", {})
    one.save_label("image-1", "final", label("b"), ".nii.gz", {})
    old = studies / ".kiln-store/earlier/final/image-1/20200101T000000Z_00000000.nii.gz"
    stray = studies / ".kiln-store/earlier/final/image-1/20200101T000000Z_00000001.nii.gz.json"
    mine = studies / ".kiln-store/earlier/final/image-1/notes.txt"
    left, fresh = studies / "labels/final/.kiln-1.part", studies / ".kiln-2.part"
    for path in (old, stray, mine, left, fresh):
        path.write_text("x")
    os.utime(left, (0, time.time() - 2 * 86400))
    one.sweep()
    assert [path.exists() for path in (old, stray, left)] == [False, False, False]
    assert [path.exists() for path in (mine, fresh)] == [True, True]
    assert kept(studies) == {("image-1", "final"): [b"a"]}
    assert (studies / "labels/final/image-1.nii.gz").read_text() == "b"


def test_no_days_keep_nothing(studies: Path, label: Any) -> None:
    one = Store(studies, days=0)
    for ext in (".nii.gz", ".nii.gz", ".nii"):
        one.save_label("image-1", "final", label("a"), ext, {})
    one.remove_label("image-1", "final")
    assert kept(studies) == {}
    assert list((studies / "labels/final").iterdir()) == []


@pytest.mark.parametrize("value", ["-1", "many", "nan", "inf"])
def test_settings_that_cannot_be_meant(studies: Path, value: str) -> None:
    with pytest.raises(StoreError, match=r"KILN_STORE_KEEP_DAYS is .*\n  fix: set it to a number"):
        store.studies(studies, {"KILN_STORE_KEEP_DAYS": value})
    assert store.studies(studies, {"KILN_STORE_KEEP_DAYS": "7", "KILN_STORE_WAIT": "3"}).lock.wait == 3


# Killed at each step, and at random moments

STEPS = ("fsync", "rename", "link", "unlink", "open", "ftruncate", "write", "mkdir")
"""System calls of a change, each of which a kill may come before."""

CHANGES: dict[str, Callable[[Store, Path], Any]] = {
    "save": lambda one, new: one.save_label("image-1", "final", new, ".nii.gz", {"by": "new"}),
    "other extension": lambda one, new: one.save_label("image-1", "final", new, ".nii", {"by": "new"}),
    "remove": lambda one, new: one.remove_label("image-1", "final"),
    "remove image": lambda one, new: one.remove_image("image-1"),
}


def killed_at(at: int, work: Callable[[], Any], defect: str = "") -> bool:
    """Do something in a process of its own that is killed before one of its system calls; tell if it was."""
    child = os.fork()
    if child == 0:
        try:
            exec(textwrap.dedent(defect), {})
            calls = itertools.count(1)

            def counted(function: Callable[..., Any]) -> Callable[..., Any]:
                def call(*arguments: Any, **options: Any) -> Any:
                    if next(calls) == at:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return function(*arguments, **options)

                return call

            for name in STEPS:
                setattr(os, name, counted(getattr(os, name)))
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def state(studies: Path) -> dict[str, Any]:
    """What the index and the files say of image-1, after whoever comes next has looked at them."""
    Store(studies).note_image("image-2", {"looked": random.random()})
    objects = json.loads((studies / "datastore_v2.json").read_bytes())["objects"]
    files = {
        str(path.relative_to(studies)): path.read_text()
        for path in studies.rglob("image-1.*")
        if ".kiln-store" not in path.parts
    }
    labels = objects.get("image-1", {}).get("labels", {})
    return {"noted": {tag: label["info"]["by"] for tag, label in labels.items()}, "files": files}


def at_each_step(folder: Path, what: str, defect: str = "") -> None:
    """Make a change again and again, killed one system call later each time."""
    for name in ("old", "new"):
        (folder / name).write_text(name)
    seen: list[dict[str, Any]] = []
    killed = True
    while killed:
        studies = folder / f"studies-{len(seen)}"
        studies.mkdir()
        for number in (1, 2):
            (studies / f"image-{number}.nii.gz").write_text("image")
        first = Store(studies)
        first.reconcile()
        first.save_label("image-1", "final", folder / "old", ".nii.gz", {"by": "old"})
        old = state(studies)
        change = functools.partial(CHANGES[what], Store(studies), folder / "new")
        killed = killed_at(len(seen) + 1, change, defect)
        seen.append(state(studies))
        # Nothing is found that the index did not name already.
        Store(studies).reconcile()
        assert state(studies) == seen[-1], f"step {len(seen)}"
    # The new is the same at whichever step the kill came, and some came before it and some after.
    new = seen[-1]
    assert new != old
    assert [one for one in seen if one not in (old, new)] == []
    assert seen.count(old) > 5
    assert seen.count(new) > 2


@pytest.mark.slow
@pytest.mark.parametrize("what", CHANGES)
def test_a_kill_at_any_step_leaves_the_old_or_the_new(memory: Path, what: str) -> None:
    at_each_step(memory, what)


def acknowledged(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def race(
    studies: Path,
    *,
    writers: int,
    count: int,
    kills: int = 0,
    tag: str = "",
    defect: str = "",
    watch: bool = True,
) -> Any:
    """Writers beside each other, killed at random moments and started again, and a reader that watches.

    Returns what `verify` and, if it was to, `watch` said at the end. A defect is taken into every writer.
    """
    chance = random.Random(SEED)
    files = {f"w{number}": studies.parent / f"w{number}.said" for number in range(writers)}
    for path in files.values():
        path.touch()
    Store(studies).reconcile()

    def start(name: str) -> subprocess.Popen[str]:
        first = len(acknowledged(files[name]))
        words = [
            "save",
            studies,
            name,
            count - first,
            "--first",
            first,
            "--images",
            4,
            "--size",
            2000,
            "--tag",
            tag,
        ]
        program = (
            f"{textwrap.dedent(defect)}\nimport sys\nfrom kiln_store.__main__ import main\nsys.exit(main())"
        )
        with files[name].open("a") as stream:
            return subprocess.Popen(
                [sys.executable, "-c", program, *map(str, words)],
                env=ENVIRONMENT, stdout=stream, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip

    reader = subprocess.Popen(
        command("watch", studies, 600 if watch else 0), env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    running = {name: start(name) for name in files}
    deadline = time.monotonic() + 240
    killed = 0
    while running:
        assert time.monotonic() < deadline, "the writers do not end"
        time.sleep(0.002)
        # By what was saved and not by a clock: on a fast disk they would end before enough were killed.
        due = (killed + 1) * writers * count // (kills + 1)
        if killed < kills and sum(path.read_bytes().count(b"\n") for path in files.values()) >= due:
            time.sleep(chance.uniform(0, 0.02))
            victim = chance.choice(sorted(running))
            running[victim].kill()
            killed += running[victim].wait() == -signal.SIGKILL
        for name, process in list(running.items()):
            if process.poll() is None:
                continue
            assert process.stderr
            with process.stderr:
                assert process.returncode in (0, -signal.SIGKILL), process.stderr.read()
            del running[name]
            # The line of a writer that was killed while it wrote it acknowledges nothing.
            whole = acknowledged(files[name])
            files[name].write_text("".join(f"{json.dumps(row)}\n" for row in whole))
            if len(whole) < count:
                running[name] = start(name)
    if reader.poll() is None:
        reader.terminate()
    watched = json.loads(reader.communicate()[0].splitlines()[-1])
    done = run("verify", studies, *files.values())
    # Without a safeguard the last record may be of another change than the last index.
    assert defect or done.stderr == ""
    return {**said(done), "killed": killed, "watched": watched, "code": done.returncode}


@pytest.mark.slow
@pytest.mark.parametrize("tag", ["", "final"], ids=["a tag each", "one tag"])
def test_no_label_is_lost_by_writers_that_are_killed(studies: Path, tag: str) -> None:
    found = race(studies, writers=4, count=75, kills=24, tag=tag)
    assert (found["acknowledged"], found["lost"], found["wrong"]) == (300, [], [])
    assert found["killed"] > 8
    assert found["watched"]["looks"] > 20
    assert found["watched"]["wrong"] == []


# The safeguards, taken out one at a time: without each, something above is found

NO_LOCK = "import kiln_store.lock as lock\nlock.Lock._flock = lambda *_: None"
NO_FRESH_READ = """
    import kiln_store.store as store
    fresh = store.Store._settled
    store.Store._settled = lambda self, *look: self._index or fresh(self, *look)
"""
IN_PLACE = """
    import kiln_store.tree as tree
    import time
    replaced = tree.Tree.move
    def move(self, source, target):
        if target != "datastore_v2.json":
            return replaced(self, source, target)
        data = self.read(source)
        with (self.root / target).open("wb", buffering=0) as stream:
            stream.write(data[:100])
            time.sleep(0.05)
            stream.write(data[100:])
        self.unlink(source)
    tree.Tree.move = move
"""
NOT_KEPT = "import kiln_store.store as store\nstore.Store._keep = lambda *_: []"
NO_RECORD = "import kiln_store.lock as lock\nlock.Held.write = lambda *_: None"
INDEX_FIRST = """
    import kiln_store.store as store
    ordered = store.Store._move
    store.Store._move = lambda self, look, moves: ordered(self, look, moves[::-1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("defect", [NO_LOCK, NO_FRESH_READ], ids=["no lock", "no fresh read"])
def test_without_it_labels_are_lost(studies: Path, defect: str) -> None:
    assert race(studies, writers=3, count=15, defect=defect, watch=False)["lost"]


@pytest.mark.slow
def test_in_its_place_a_reader_sees_an_index_that_is_none(studies: Path) -> None:
    found = race(studies, writers=1, count=15, defect=IN_PLACE)
    assert any("is not an index" in row["what"] for row in found["watched"]["wrong"] if "what" in row)


@pytest.mark.slow
def test_without_earlier_versions_a_replaced_label_is_lost(studies: Path) -> None:
    assert race(studies, writers=1, count=5, defect=NOT_KEPT, watch=False)["lost"]


@pytest.mark.slow
def test_without_its_record_a_kill_leaves_half_a_save(memory: Path) -> None:
    with pytest.raises(AssertionError):
        at_each_step(memory, "save", NO_RECORD)


@pytest.mark.slow
def test_a_record_that_nobody_ends_leaves_half_a_save(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LOOKS", (0.0, 0.001))
    monkeypatch.setattr(Store, "_left", lambda *_: [])
    with pytest.raises(AssertionError):
        at_each_step(memory, "save")


@pytest.mark.parametrize("defect", ["", INDEX_FIRST], ids=["sound", "index first"])
def test_the_index_comes_last(studies: Path, label: Any, defect: str) -> None:
    """A reader, who takes no lock, never finds a label named that is not there."""
    program = """
        import os, sys
        from pathlib import Path
        from kiln_store.store import Store
        studies = Path(sys.argv[1])
        real = os.rename
        def rename(source, target, **options):
            if target == "datastore_v2.json" and not (studies / "labels/final/image-1.nii.gz").is_file():
                print("too early")
            real(source, target, **options)
        os.rename = rename
        Store(studies).save_label("image-1", "final", Path(sys.argv[2]), ".nii.gz", {})
    """
    text = textwrap.dedent(defect) + textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-c", text, studies, label("x")], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("too early\n" if defect else "")
