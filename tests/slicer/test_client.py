"""The extension's own client, at the address that the baked start-up file takes from the baked settings."""

from __future__ import annotations

import ast
import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import nibabel
import pytest

from scripts import annotate
from tests.gateway.gateway import Gateway, password, running
from tests.slicer import module
from tests.slicer.home import Home, installed

USER = "annotator1"


def library(home: Home) -> ModuleType:
    """MONAILabelLib, out of the installed extension."""
    report = json.loads((home.path / "kiln/extension.json").read_text())
    sys.path.insert(0, report["path"])
    try:
        found = importlib.import_module("MONAILabelLib.client")
    finally:
        sys.path.remove(report["path"])
    assert Path(str(found.__file__)).is_relative_to(home.path)
    return found


def logic(client: type, said: list[str], secret: str) -> Any:
    """The module's own way to a client that is logged in, with a dialog that is filled in at once.

    The method is compiled out of the module's source: the rest of it needs Slicer's widgets.
    """
    (method,) = (
        node
        for node in ast.walk(ast.parse(module.source()))
        if isinstance(node, ast.FunctionDef) and node.name == "_client"
    )

    class Dialog:
        def __init__(self, username: str, password: str, resourcePath: object) -> None:  # noqa: N803
            typed = SimpleNamespace(text=USER), SimpleNamespace(text=secret)
            self.ui = SimpleNamespace(username=typed[0], password=typed[1])

        def exec(self) -> None:
            said.append("asked")

    names: dict[str, Any] = {"MONAILabelClient": client, "LoginDialog": Dialog}
    exec(compile(ast.Module([method], []), "MONAILabel.py", "exec"), names)
    return names["_client"]


class Session:
    """What the module's logic keeps between calls."""

    resourcePath = auth_token = username = password = None  # noqa: N815

    def __init__(self, server_url: str, folder: Path) -> None:
        self.server_url, self.tmpdir, self.client_id = server_url, str(folder), "user-xyz"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with running() as made:
        yield made


@pytest.fixture(scope="module")
def home(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    yield installed(tmp_path_factory.mktemp("slicer"), slicer_server_url=gateway.url)
    for name in [name for name in sys.modules if name.startswith("MONAILabelLib")]:
        del sys.modules[name]


def test_address_is_the_baked_one(home: Home, gateway: Gateway) -> None:
    assert home.server() == gateway.url


def test_session_leads_the_client_elsewhere(home: Home, gateway: Gateway, tmp_path: Path) -> None:
    with running(tls=True) as other:
        address = home.server(KILN_SERVER_URL=other.url)
        client = library(home).MONAILabelClient(address, str(tmp_path))
        client.update_auth(client.auth_token(USER, password(USER)))
        before = len(gateway.upstream.got)
        assert client.info() == {"target": "/info/"}
        assert other.upstream.got[-1].target == "/info/"
        assert len(gateway.upstream.got) == before


def test_module_logs_in_once_where_the_server_asks(home: Home, gateway: Gateway, tmp_path: Path) -> None:
    said: list[str] = []
    session, before = Session(home.server(), tmp_path), len(gateway.upstream.got)
    client = logic(library(home).MONAILabelClient, said, password(USER))
    assert client(session).info() == {"target": "/info/"}
    assert client(session).info() == {"target": "/info/"}
    assert said == ["asked"]
    assert [got.target for got in gateway.upstream.got[before:]] == ["/info/", "/info/"]


def test_dialog_that_the_build_forgets_is_there_with_what_the_module_asks_for(home: Home) -> None:
    report = json.loads((home.path / "kiln/extension.json").read_text())
    (dialog,) = Path(report["path"]).glob("Resources/UI/LoginDialog.ui")
    brought = {each.get("name") for each in ElementTree.parse(dialog).iter("widget")}
    (used,) = (
        node
        for node in ast.walk(ast.parse(module.source()))
        if isinstance(node, ast.ClassDef) and node.name == "LoginDialog"
    )
    asked = {
        node.attr
        for node in ast.walk(used)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "ui"
    }
    assert asked == {"username", "password", "loginButton"}
    assert asked <= brought


def test_wrong_password_is_asked_for_again_and_lets_nobody_in(
    home: Home, gateway: Gateway, tmp_path: Path
) -> None:
    said: list[str] = []
    found = library(home)
    session, before = Session(home.server(), tmp_path), len(gateway.upstream.got)
    client = logic(found.MONAILabelClient, said, "wrong")
    for _ in range(2):
        with pytest.raises(found.MONAILabelClientException) as refusal:
            client(session).info()
        assert refusal.value.status_code == 401
    assert said == ["asked", "asked"]
    assert gateway.upstream.got[before:] == []


@pytest.mark.slow
@pytest.mark.root
def test_client_annotates_on_the_images_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing of it is a stand-in but Slicer: the server is the proven image's."""
    from tests.server import live

    place = tmp_path_factory.mktemp("annotate")
    for folder in (place, place.parent, place.parent.parent):
        folder.chmod(folder.stat().st_mode | 0o011)
    studies = live.studies(place / "studies", 0)
    nibabel.save(annotate.volume(), studies / "first.nii.gz")
    os.chown(studies / "first.nii.gz", live.ACCOUNT, live.ACCOUNT)
    conf = json.dumps({"models": annotate.MODEL, "sam2": "false"})
    with (
        live.servers(place, studies, 1, named=True, conf=conf) as (server,),
        running(gateway_upstream=f"127.0.0.1:{server.port}") as gateway,
    ):
        home = installed(place / "home", slicer_server_url=gateway.url)
        said: list[str] = []
        session = Session(home.server(), place)
        client = logic(library(home).MONAILabelClient, said, password(USER))
        assert annotate.MODEL in client(session).info()["models"]
        assert client(session).next_sample("first", {})["id"] == "first"
        label, _ = client(session).infer(
            annotate.MODEL, "first", {"device": "cpu", "result_extension": ".nii.gz"}
        )
        assert annotate.voxels(Path(label)).shape == annotate.SHAPE
        client(session).save_label("first", label, params={})
        assert Path(client(session).download_label("first", "final")).read_bytes() == Path(label).read_bytes()
        assert said == ["asked"]
