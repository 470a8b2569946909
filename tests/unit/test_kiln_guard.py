"""What the server refuses before upstream's endpoints see it: archives, paths, labels of an inference."""

from __future__ import annotations

import errno
import io
import json
import random
import shutil
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiln import paths

sys.path.insert(0, str(paths.ROOT / "ansible/roles/monai_label/files"))

import kiln_guard


class Answered(Exception):  # noqa: N818 - stands for fastapi's HTTPException
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail)
        self.status, self.detail = status, detail


# Archives


def tarred(path: Path, *members: tuple[str, str | None, bytes], mode: str = "w:gz") -> Path:
    """A tar of names, with the target of a link or None, and what a file holds."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, link, body in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            if name.endswith("/"):
                entry.type = tarfile.DIRTYPE
            if link is not None:
                entry.type, entry.linkname = tarfile.SYMTYPE, link
            tar.addfile(entry, io.BytesIO(body))
    return path


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in names:
            packed.writestr(name, b"" if name.endswith("/") else name.encode())
    return path


def found(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_is_unpacked(tmp_path: Path, mode: str) -> None:
    archive = tarred(
        tmp_path / "x", ("./", None, b""), ("./a.dcm", None, b"a"), ("s/b.dcm", None, b"b"), mode=mode
    )
    kiln_guard.unpack_archive(archive, tmp_path / "out")
    assert found(tmp_path / "out") == {"a.dcm": b"a", "s/b.dcm": b"b"}


def test_a_zip_is_unpacked(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "x.zip", "a.dcm", "s/", "s/b.dcm")
    kiln_guard.unpack_archive(archive, tmp_path / "out")
    assert found(tmp_path / "out") == {"a.dcm": b"a.dcm", "s/b.dcm": b"s/b.dcm"}


HOSTILE: dict[str, tuple[tuple[str, str | None, bytes], ...]] = {
    "up": (("../../out", None, b"x"),),
    "up after a folder": (("a/../../../out", None, b"x"),),
    "absolute": (("/tmp/kiln-guard-out", None, b"x"),),
    "through a link": (("a", "../..", b""), ("a/out", None, b"x")),
    "over a link": (("a", "/etc/passwd", b""), ("a", None, b"x")),
    "a link alone": (("a", "b", b""),),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_tar_leaves_nothing(tmp_path: Path, case: str) -> None:
    place = tmp_path / "a/b/c"
    place.mkdir(parents=True)
    archive = tarred(place / "x.tar", ("good", None, b"x"), *HOSTILE[case], mode="w")
    with pytest.raises(kiln_guard.RefusedError, match=r"in the archive [^\n]*\n  fix: pack the files"):
        kiln_guard.unpack_archive(archive, place / "out")
    assert found(tmp_path) == {} and not (place / "out").exists()


@pytest.mark.parametrize("name", ["../../out", "/out", "a/../../out"])
def test_a_hostile_zip_leaves_nothing(tmp_path: Path, name: str) -> None:
    place = tmp_path / "a/b/c"
    place.mkdir(parents=True)
    with pytest.raises(kiln_guard.RefusedError, match="leads out of it\n  fix: pack the files"):
        kiln_guard.unpack_archive(zipped(place / "x.zip", "good", name), place / "out")
    assert found(tmp_path) == {}


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz"])
def test_a_damaged_archive_is_refused(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / "x"
    if kind == "zip":
        whole = zipped(archive, "a", "b").read_bytes()
        archive.write_bytes(whole[:30] + b"\0\0\0" + whole[33:])
    else:
        body = random.Random(1).randbytes(100_000)
        archive.write_bytes(tarred(archive, ("a", None, body), mode=f"w:{kind[4:]}").read_bytes()[:50_000])
    with pytest.raises(kiln_guard.RefusedError, match=r"the archive is damaged: .+\n  fix: pack it again"):
        kiln_guard.unpack_archive(archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_names_that_clash_are_refused(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "x", ("a", None, b"x"), ("a/b", None, b"x"))
    with pytest.raises(kiln_guard.RefusedError, match="damaged"):
        kiln_guard.unpack_archive(archive, tmp_path / "out")


@given(st.binary(max_size=600))
def test_any_bytes_are_an_archive_or_refused(body: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(tarfile, "is_tarfile", lambda _: True)
        archive = Path(folder, "x")
        archive.write_bytes(body)
        try:
            kiln_guard.unpack_archive(archive, Path(folder, "out"))
        except kiln_guard.RefusedError:
            pass


# What an inference may be asked for


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"image": "spleen_3", "device": "cuda:0", "label": "spleen"},
        {"foreground": [[1, 2, 3]], "label_info": [{"name": "a/b", "color": [1, 2, 3]}]},
        {"result_extension": ".nrrd", "result_compress": False},
        {"image": "1.2.840", "roi": 0.5, "nothing": None},
    ],
)
def test_what_clients_ask_for_stays_as_it_is(asked: dict[str, Any]) -> None:
    assert kiln_guard.parameters(asked) == asked


@pytest.mark.parametrize("value", kiln_guard.NO)
def test_whoever_wants_nothing_saved_gets_that(value: object) -> None:
    assert kiln_guard.parameters({"save_label": value})["save_label"] is False


@pytest.mark.parametrize("value", [True, 1, "true", "yes", [0]])
def test_an_inference_saves_nothing(value: object) -> None:
    with pytest.raises(
        kiln_guard.RefusedError,
        match=r"saves no label here\n  fix: leave out save_label.*PUT /datastore/label",
    ):
        kiln_guard.parameters({"save_label": value, "label_tag": "final"})


@pytest.mark.parametrize(
    "asked",
    [
        {"label": "/etc/passwd"},
        {"model_filename": "../../x.pt"},
        {"model_filename": ["/tmp/x.pt"]},
        {"deep": [{"er": "/etc/passwd"}]},
        {"/etc/passwd": 1},
        {"spacing": "$__import__('os').system('id')"},
        {"spacing": "%/etc/passwd"},
        {"spacing": {"_target_": "os.system", "command": "id"}},
    ],
)
def test_params_lead_to_no_file_and_are_not_evaluated(asked: dict[str, Any]) -> None:
    with pytest.raises(kiln_guard.RefusedError, match=r"params .*\n  fix: send"):
        kiln_guard.parameters(asked)


@pytest.mark.parametrize(
    "image", ["/etc/passwd", "../x", "a/../../x", "here.nii.gz", ["/etc/passwd"], 7, None]
)
def test_an_image_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here.nii.gz").write_bytes(b"of the folder that the server runs in")
    with pytest.raises(kiln_guard.RefusedError, match=r"is no image of this server\n  fix: give the name"):
        kiln_guard.image_name(image)
    with pytest.raises(kiln_guard.RefusedError, match=r"is no image of this server\n  fix: give the name"):
        kiln_guard.parameters({"image": image})


@pytest.mark.parametrize("image", ["", "ct", "project/subject/scan", "1.2.3", "x" * 5000, "a\0b", "\udcff"])
def test_other_names_are_the_datastores_to_judge(image: str) -> None:
    kiln_guard.image_name(image)


# The endpoints


def endpoints(done: list[Any]) -> tuple[dict[str, Any], Any]:
    """What stands for upstream's: functions with its parameters, which note what they are called with."""

    def run_inference(
        background_tasks: Any, model: str, image: str = "", session_id: str = "", params: str = "{}"
    ) -> None:
        done.append((model, image, json.loads(params)))

    def run_wsi_inference(background_tasks: Any, model: str, image: str = "", wsi: Any = None) -> None:
        done.append((model, image, wsi.params))

    def run(params: Any = None, run_sync: bool = False) -> None:
        done.append(params)

    def run_model(model: str, params: Any = None, run_sync: bool = False, enqueue: bool = False) -> None:
        done.append(model)

    class Sessions:
        def add_session(self, archive: Path, folder: Path) -> None:
            sessions.shutil.unpack_archive(archive, folder)
            sessions.shutil.move(folder, f"{folder}-kept")

    sessions: Any = SimpleNamespace(shutil=shutil, Sessions=Sessions)

    def create_session(folder: Path, uncompress: bool = False) -> None:
        if not folder.exists():
            raise OSError(errno.ENOSPC, "no room")
        Sessions().add_session(folder / "x", folder / "out")

    modules = {
        "infer": {"run_inference": run_inference},
        "wsi_infer": {"run_wsi_inference": run_wsi_inference},
        "train": {"run": run, "run_model": run_model},
        "batch_infer": {"run": run},
        "session": {"create_session": create_session},
    }
    return {name: SimpleNamespace(**has) for name, has in modules.items()}, sessions


def mounted() -> tuple[dict[str, Any], list[Any]]:
    done: list[Any] = []
    known, sessions = endpoints(done)
    for _ in range(2):
        kiln_guard.mount(known, sessions, Answered)
    return known, done


def test_the_endpoints_are_asked_what_may_be_asked() -> None:
    known, done = mounted()
    known["infer"].run_inference(None, "m", "ct", "", '{"save_label": "false"}')
    known["infer"].run_inference(None, "m", image="ct", params="")
    known["wsi_infer"].run_wsi_inference(None, "m", "ct", SimpleNamespace(params={"a": 1}))
    known["wsi_infer"].run_wsi_inference(None, "m", "ct", SimpleNamespace(params=None))
    known["train"].run_model("m", {}, False, True)
    known["batch_infer"].run("m")
    assert done == [
        ("m", "ct", {"save_label": False}), ("m", "ct", {}), ("m", "ct", {"a": 1}), ("m", "ct", {}), "m", "m",
    ]  # fmt: skip


def test_what_may_not_be_asked_is_answered_by_400_and_not_done() -> None:
    known, done = mounted()
    deep = "[" * 100_000
    wanted = [
        lambda: known["infer"].run_inference(None, "m", "/etc/passwd"),
        lambda: known["infer"].run_inference(None, "m", "ct", "", '{"image": "/etc/passwd"}'),
        lambda: known["infer"].run_inference(None, "m", "ct", "", '{"save_label": true}'),
        lambda: known["infer"].run_inference(None, "m", "ct", "", "[]"),
        lambda: known["infer"].run_inference(None, "m", "ct", "", "{"),
        lambda: known["infer"].run_inference(None, "m", "ct", "", deep),
        lambda: known["wsi_infer"].run_wsi_inference(None, "m", "../x", SimpleNamespace(params={})),
        lambda: known["wsi_infer"].run_wsi_inference(None, "m", "x", SimpleNamespace(params={"image": "/x"})),
        lambda: known["train"].run({}, True),
        lambda: known["train"].run_model("m", run_sync=True),
        lambda: known["batch_infer"].run({}, run_sync=True),
    ]
    for ask in wanted:
        with pytest.raises(Answered) as answer:
            ask()
        assert answer.value.status == 400 and "\n  fix: " in answer.value.detail
    assert done == []


def test_sessions_are_unpacked_by_ours(tmp_path: Path) -> None:
    known, _ = mounted()
    tarred(tmp_path / "x", ("good", None, b"x"))
    known["session"].create_session(tmp_path, True)
    assert found(tmp_path / "out-kept") == {"good": b"x"}
    tarred(tmp_path / "x", ("../../bad", None, b"x"))
    with pytest.raises(Answered) as answer:
        known["session"].create_session(tmp_path, True)
    assert answer.value.status == 400 and not list(tmp_path.parent.rglob("bad"))
    with pytest.raises(Answered, match="disk of the server is full") as answer:
        known["session"].create_session(tmp_path / "none", True)
    assert answer.value.status == 507


@pytest.mark.parametrize("module", ["infer", "wsi_infer", "train", "batch_infer", "session"])
def test_a_release_with_other_endpoints_is_not_served(module: str) -> None:
    known, sessions = endpoints([])
    known[module] = SimpleNamespace()
    with pytest.raises(RuntimeError, match=f"{module}.* has no "):
        kiln_guard.mount(known, sessions, Answered)
    known, sessions = endpoints([])
    sessions.Sessions.add_session = lambda: None
    with pytest.raises(RuntimeError, match="unpacked otherwise"):
        kiln_guard.mount(known, sessions, Answered)
