"""Upstream's client and upstream's own tests, through nginx with a token, against the image's server."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monailabel.client import MONAILabelClient

from kiln import paths
from scripts import annotate
from tests.gateway.gateway import Gateway, password, running
from tests.server import live, upstream

sys.path.insert(0, str(paths.ROOT / "ansible/roles/health/files"))

from kiln_instance.server import trainings

pytestmark = [pytest.mark.slow, pytest.mark.root]

MODEL = "segmentation_spleen"
IMAGES = ("spleen_3", "spleen_9", "spleen_12")
"""Names that upstream's own tests ask for; each has a label."""

UNLABELLED = "spleen_28"
"""What is left to be annotated: without one there is no next sample."""

SIDE = 96
"""Voxels of an image's side: less does not fill the patches of a training."""

CONF = {"models": MODEL, "sam2": "false", "skip_scoring": "false"}
TRAINING = 1800.0


@dataclass
class Desk:
    """Where an annotator sits.

    Parameters
    ----------
    client:
        Logged in.
    server:
        What answers in the end.
    """

    client: MONAILabelClient
    gateway: Gateway
    studies: Path
    server: live.Live

    def group(self, file: Path) -> str:
        """Write the server's processes to a file, as the kernel does for a service; return its path."""
        session = str(self.server.pid)
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                if path.read_text().rpartition(")")[2].split()[3] == session:
                    found.append(path.parent.name)
            except OSError:
                continue
        file.write_text("".join(f"{pid}\n" for pid in found))
        return str(file)


def volume(seed: int) -> tuple[nibabel.Nifti1Image, nibabel.Nifti1Image]:
    """A synthetic CT of 1 mm, and the label of its spleen."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, SIDE)] * 3, indexing="ij")
    spleen = ((x + 0.3) / 0.3) ** 2 + (y / 0.3) ** 2 + (z / 0.4) ** 2 < 1
    noise = np.random.default_rng(seed).normal(0, 15, spleen.shape)
    values = np.where(x**2 + y**2 < 0.8, 40.0, -1000.0) + np.where(spleen, 90.0, 0.0) + noise
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    return (
        nibabel.Nifti1Image(values.astype(np.int16), affine),
        nibabel.Nifti1Image(spleen.astype(np.uint8), affine),
    )


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    place = tmp_path_factory.mktemp("client")
    for folder in (place, place.parent, place.parent.parent):
        folder.chmod(folder.stat().st_mode | 0o011)
    studies = live.studies(place / "studies", 0)
    labels = studies / "labels/final"
    labels.mkdir(parents=True)
    for number, name in enumerate(IMAGES):
        image, label = volume(number)
        nibabel.save(image, studies / f"{name}.nii.gz")
        nibabel.save(label, labels / f"{name}.nii.gz")
    nibabel.save(volume(len(IMAGES))[0], studies / f"{UNLABELLED}.nii.gz")
    for path in (studies / "labels", *studies.rglob("*")):
        os.chown(path, live.ACCOUNT, live.ACCOUNT)
    got = place / "got"
    got.mkdir()
    with (
        live.servers(place, studies, 1, named=True, conf=json.dumps(CONF)) as (server,),
        running(gateway_upstream=f"127.0.0.1:{server.port}") as gateway,
    ):
        client = MONAILabelClient(gateway.url, str(got))
        client.update_auth(client.auth_token("admin1", password("admin1")))
        yield Desk(client, gateway, studies, server)


def test_info_datastore_and_next_sample(desk: Desk) -> None:
    assert MODEL in desk.client.info()["models"]
    assert set(desk.client.datastore()["objects"]) == {*IMAGES, UNLABELLED}
    assert desk.client.next_sample("random", {})["id"] == UNLABELLED


def test_upload_infer_save_and_download(desk: Desk, tmp_path: Path) -> None:
    said = annotate.annotate(desk.gateway.url, tmp_path, f"annotator1:{password('annotator1')}")
    label = annotate.voxels(tmp_path / "label.nii.gz")
    assert label.shape == annotate.SHAPE
    assert (tmp_path / "label.nii.gz").read_bytes() == (tmp_path / "read_back.nii.gz").read_bytes()
    assert set(said["datastore"]["objects"]) == {*IMAGES, UNLABELLED, annotate.IMAGE}  # type: ignore[index]
    assert desk.client.download_label(annotate.IMAGE, "final")


def test_sessions(desk: Desk) -> None:
    # Its headers are then those of another request, see kiln_multipart.
    assert desk.client.next_sample("random", {})
    made = desk.client.create_session(str(desk.studies / f"{IMAGES[0]}.nii.gz"))
    assert desk.client.get_session(made["session_id"])
    file, _ = desk.client.infer(MODEL, "", {"device": "cpu"}, session_id=made["session_id"])
    assert nibabel.load(file).shape == (SIDE,) * 3
    assert desk.client.remove_session(made["session_id"])


def until_scored(client: upstream.Client) -> None:
    """Wait: a label that was saved is scored by itself, and one score is reckoned at a time."""
    end = time.monotonic() + TRAINING
    while (answer := client.get("/scoring/?all=true")).status_code == 200:
        if not {task["status"] for task in answer.json()} & {"SUBMITTED", "RUNNING"}:
            return
        assert time.monotonic() < end, "the scoring of before does not end"
        time.sleep(2)


def test_each_of_upstreams_own_files_is_run_or_has_a_reason() -> None:
    assert upstream.names() == {*upstream.RUN, *upstream.LEFT_OUT}
    assert not {*upstream.RUN} & {*upstream.LEFT_OUT}


@pytest.mark.parametrize("name", upstream.RUN)
def test_upstreams_own_tests_pass(desk: Desk, name: str) -> None:
    client = upstream.Client(desk.gateway.url, desk.gateway.token("admin"))
    if name == "test_scoring":
        until_scored(client)
    result = upstream.run(name, client, desk.studies, desk.studies / ".kiln-store/sessions")
    assert result.testsRun >= 1
    assert [text for _, text in (*result.failures, *result.errors)] == []


def test_upstreams_own_tests_fail_where_they_should(desk: Desk) -> None:
    client = upstream.Client(desk.gateway.url, "no token")
    result = upstream.run("test_datastore", client, desk.studies, desk.studies / ".kiln-store/sessions")
    assert len(result.failures) + len(result.errors) >= 10


def test_a_model_is_uploaded_and_deleted_for_every_server(desk: Desk) -> None:
    client = upstream.Client(desk.gateway.url, desk.gateway.token("admin"))
    shared = desk.studies / ".kiln-store/models"
    weights = client.get(f"/model/{MODEL}").content
    before = shared / f"{MODEL}.pt"
    assert not before.exists()
    answer = client.put(f"/model/{MODEL}", files={"file": ("x.pt", weights)})
    assert answer.status_code == 200, answer.text
    number = before.stat().st_ino
    assert client.put(f"/model/{MODEL}", files={"file": ("x.pt", weights)}).status_code == 200
    # Another file in its place: whoever loads the first one has all of it.
    assert before.stat().st_ino != number and before.read_bytes() == weights
    assert client.delete(f"/model/{MODEL}").status_code == 200
    assert [path.name.rpartition(".")[2] for path in shared.iterdir()] == ["deleted"]
    # The server has the weights of the image again.
    assert client.get(f"/model/{MODEL}").content == weights


def test_an_epoch_of_training_and_its_score(desk: Desk, tmp_path: Path) -> None:
    wanted = {
        "name": "train_01", "device": "cpu", "max_epochs": 1, "val_split": 0.34, "dataset": "Dataset",
        "train_batch_size": 1, "val_batch_size": 1, "tracking": "None", "multi_gpu": False,
    }  # fmt: skip
    assert desk.client.train_start(MODEL, wanted)
    end = time.monotonic() + TRAINING
    # What protects an instance while it trains, and delays its drain.
    seen = set()
    # Not by check_if_running: right after the start nothing runs yet.
    while (task := desk.client.train_status())["status"] in ("PENDING", "RUNNING"):
        assert time.monotonic() < end, "the training does not end"
        seen.add(trainings(desk.group(tmp_path / "group")))
        time.sleep(0.5)
    assert task["status"] == "DONE", task
    assert max(seen) == 1, "kiln-health and kiln-drain do not see a training"
    assert trainings(desk.group(tmp_path / "group")) == 0
    # On the share, where every server of it finds the model.
    assert list((desk.studies / ".kiln-store").rglob("*.pt"))
    admin = desk.gateway.token("admin")
    assert desk.gateway.ask("GET", "/scoring/", "admin").status in (200, 404)
    client = upstream.Client(desk.gateway.url, admin)
    until_scored(client)
    score = client.post("/scoring/dice?run_sync=true", json={})
    assert score.status_code == 200, score.text
