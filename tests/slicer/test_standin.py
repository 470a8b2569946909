"""The stand-in for 3D Slicer: the same bytes each time, the real module, and ini files as Qt has them."""

from __future__ import annotations

import importlib.util
import tarfile
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.slicer import qt, standin

TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
KEY = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}(/[A-Za-z][A-Za-z0-9_. ]{0,8}){0,2}", fullmatch=True)


@pytest.fixture(scope="module")
def ini() -> ModuleType:
    """The stand-in's own reader and writer."""
    spec = importlib.util.spec_from_file_location(
        "qsettings", standin.FIXTURE / "bin/Python/slicer/qsettings.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_archives_have_the_same_bytes_each_time(tmp_path: Path) -> None:
    for make in (standin.archive, standin.extension):
        first, second = make(tmp_path / "first"), make(tmp_path / "second")
        assert first.sha256 == second.sha256
        assert first.path.name == second.path.name


def test_archives_differ_by_version_and_revision(tmp_path: Path) -> None:
    for make in (standin.archive, standin.extension):
        usual = make(tmp_path / "usual")
        assert make(tmp_path / "version", version="5.12.0").sha256 != usual.sha256
        assert make(tmp_path / "revision", revision="1").sha256 != usual.sha256


def test_extension_is_the_wheels_as_its_build_installs_it(tmp_path: Path) -> None:
    made, source = standin.extension(tmp_path), standin.plugin() / standin.NAME
    with tarfile.open(made.path) as tar:
        files = {name.split("/qt-scripted-modules/")[-1]: name for name in tar.getnames()}
        for name in ("MONAILabel.py", "MONAILabelLib/client.py", "Resources/UI/MONAILabel.ui"):
            assert tar.extractfile(files[name]).read() == (source / name).read_bytes()  # type: ignore[union-attr]
    # Upstream's build forgets it, which is why the role brings one.
    assert (source / "Resources/UI/LoginDialog.ui").is_file()
    assert "Resources/UI/LoginDialog.ui" not in files


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(KEY, TEXT | st.lists(TEXT, min_size=2, max_size=4), max_size=5))
def test_stand_in_reads_what_qt_writes(
    ini: ModuleType, tmp_path_factory: pytest.TempPathFactory, values: dict[str, str | list[str]]
) -> None:
    path = tmp_path_factory.mktemp("ini") / "made.ini"
    qt.write(path, values)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    assert ini.read(text) == values


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(KEY, TEXT | st.lists(TEXT, min_size=2, max_size=4), min_size=1, max_size=5))
def test_qt_reads_what_the_stand_in_writes(
    ini: ModuleType, tmp_path_factory: pytest.TempPathFactory, values: dict[str, str | list[str]]
) -> None:
    path = tmp_path_factory.mktemp("ini") / "made.ini"
    path.write_text(ini.write(values), encoding="utf-8")
    assert qt.read(path) == values


@pytest.mark.parametrize(
    "text",
    [
        "[A]\nurl=http://a;http://b\n",
        '[A]\nurl="http://a;http://b"\n',
        "[A]\nlist=a, b,c\n",
        '[A]\nlist="a,b", c\n',
        "; a comment\n[A]\nx=1 ; and another\n",
        "x=1\n[General]\ny=2\n[%General]\nz=3\n",
        "[A%20B]\nc\\d=e\\\\f\n",
        "[A]\nx=\n",
    ],
)
def test_stand_in_reads_as_qt_does(ini: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "made.ini").write_text(text)
    assert ini.read(text) == qt.read(tmp_path / "made.ini")
