"""Trained models on the share, and the processes of background tasks: without MONAI Label."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kiln import paths

sys.path.insert(0, str(paths.ROOT / "ansible/roles/monai_label/files"))

from kiln_store import models, monai, tasks


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """An app and studies."""
    app, studies = tmp_path / "app", tmp_path / "studies"
    (app / "model").mkdir(parents=True)
    studies.mkdir()
    return app, studies


def test_what_one_server_trains_another_finds(folders: tuple[Path, Path], tmp_path: Path) -> None:
    app, studies = folders
    peer = tmp_path / "peer"
    (peer / "model").mkdir(parents=True)
    for one in (app, peer):
        models.share(one, studies, ["spleen"])
        # Upstream takes what is not there for a model that nobody has trained.
        assert not os.path.exists(one / "model/spleen.pt")
    trained = tmp_path / "checkpoint.pt"
    trained.write_text("weights")
    models.Shutil.copy(trained, app / "model/spleen.pt")
    models.Shutil.copy(trained, app / "model/spleen/train_stats.json")
    assert (app / "model/spleen.pt").is_symlink()
    assert (peer / "model/spleen.pt").read_text() == "weights"
    assert (peer / "model/spleen/train_stats.json").read_text() == "weights"


def test_a_model_is_replaced_as_a_whole(folders: tuple[Path, Path], tmp_path: Path) -> None:
    app, studies = folders
    models.share(app, studies, ["spleen"])
    for text in ("old", "new"):
        (tmp_path / text).write_text(text)
    models.publish(tmp_path / "old", app / "model/spleen.pt")
    with (app / "model/spleen.pt").open() as loading:
        models.publish(tmp_path / "new", app / "model/spleen.pt")
        assert loading.read() == "old"
    with pytest.raises(FileNotFoundError):
        models.publish(tmp_path / "none", app / "model/spleen.pt")
    assert (app / "model/spleen.pt").read_text() == "new"
    assert [path.name for path in (studies / ".kiln-store/models").iterdir()] == ["spleen.pt"]


def test_a_model_that_is_deleted_is_set_aside_for_all(folders: tuple[Path, Path], tmp_path: Path) -> None:
    app, studies = folders
    peer = tmp_path / "peer"
    (peer / "model").mkdir(parents=True)
    for one in (app, peer):
        models.share(one, studies, ["spleen"])
    (tmp_path / "old").write_text("old")
    link = app / "model/spleen.pt"
    models.Shutil.copy(tmp_path / "old", link)
    models.Shutil.move(str(link), f"{link}.20260101_000000.deleted")
    assert not (peer / "model/spleen.pt").exists()
    kept = studies / ".kiln-store/models/spleen.pt.20260101_000000.deleted"
    assert kept.read_text() == "old"
    # The link stays: what comes next is everybody's as well.
    models.Shutil.copy(kept, link)
    assert (peer / "model/spleen.pt").read_text() == "old"
    # A file of this server alone goes as upstream has it.
    (app / "model/own.pt").write_text("own")
    models.Shutil.move(app / "model/own.pt", app / "model/own.pt.deleted")
    assert (app / "model/own.pt.deleted").read_text() == "own" and not (app / "model/own.pt").exists()
    with pytest.raises(FileNotFoundError):
        models.Shutil.move(peer / "model/spleen/train_stats.json", peer / "model/x")


def test_what_was_trained_before_goes_to_the_share_if_it_has_none(folders: tuple[Path, Path]) -> None:
    app, studies = folders
    (app / "model/spleen.pt").write_text("mine")
    (app / "model/liver.pt").write_text("mine")
    (studies / ".kiln-store/models").mkdir(parents=True)
    (studies / ".kiln-store/models/liver.pt").write_text("theirs")
    for _ in range(2):
        models.share(app, studies, ["spleen", "liver", "../out", ""])
        assert (app / "model/spleen.pt").readlink() == studies / ".kiln-store/models/spleen.pt"
        assert (app / "model/spleen.pt").read_text() == "mine"
        assert (app / "model/liver.pt").read_text() == "mine"
    assert (studies / ".kiln-store/models/liver.pt").read_text() == "theirs"
    assert not (app / "out.pt").is_symlink()


def test_a_link_to_another_share_is_corrected(folders: tuple[Path, Path], tmp_path: Path) -> None:
    app, studies = folders
    (tmp_path / "moved").mkdir()
    models.share(app, tmp_path / "moved", ["spleen"])
    models.share(app, studies, ["spleen"])
    assert (app / "model/spleen.pt").readlink() == studies / ".kiln-store/models/spleen.pt"


def test_a_task_is_started_on_the_store(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\necho "$PYTHONPATH" "$@"\n')
    program.chmod(0o755)
    module = tasks.Subprocess()
    done = module.Popen(
        [str(program), "-m", tasks.UPSTREAM, "-m", "train"], stdout=module.PIPE,
        env={"PYTHONPATH": "/app", "PATH": os.environ["PATH"]},
    )  # fmt: skip
    folder = paths.ROOT / "ansible/roles/monai_label/files"
    assert done.communicate()[0].decode() == f"{folder}:/app -m kiln_store.tasks -m train\n"
    assert module.Popen is not subprocess.Popen
    with pytest.raises(ValueError, match="a task is not"):
        module.Popen([str(program), "-m", "another"])


@pytest.mark.parametrize(("studies", "there"), [("/studies", True), ("http://a/dicomweb", False)])
def test_only_folders_are_shared(studies: str, there: bool) -> None:
    assert monai.local(studies) is there
