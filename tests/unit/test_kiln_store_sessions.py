"""Sessions as servers share them: upstream's own test of sessions, on ours and with our unpacking."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import sys
import unittest
from pathlib import Path

import pytest
from monailabel.utils import sessions

from kiln import paths

sys.path.insert(0, str(paths.ROOT / "ansible/roles/monai_label/files"))

import kiln_guard
from kiln_store.sessions import SharedSessions


def test_upstreams_own_test_of_sessions_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = importlib.metadata.files("monailabel") or []
    file = next(path for path in files if str(path) == "tests/unit/utils/test_sessions.py")
    monkeypatch.setattr(sessions, "Sessions", SharedSessions)
    monkeypatch.setattr(sessions, "shutil", kiln_guard.Shutil())
    spec = importlib.util.spec_from_file_location("upstream_sessions", str(file.locate()))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # What upstream downloads, and where it puts it beside its own sources.
    (tmp_path / "series").mkdir()
    (tmp_path / "series/1.dcm").write_bytes(b"slice")
    shutil.make_archive(str(tmp_path / "dataset"), "zip", tmp_path / "series")
    module.MyTestCase.data_dir = module.MyTestCase.download_dir = str(tmp_path)
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromModule(module).run(result)
    assert result.testsRun == 1
    assert [text for _, text in (*result.failures, *result.errors)] == []
    assert list((tmp_path / "sessions").iterdir()) == []


def test_a_hostile_archive_makes_no_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "shutil", kiln_guard.Shutil())
    archive = tmp_path / "x.zip"
    with kiln_guard.zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("../../out", b"x")
    kept = SharedSessions(str(tmp_path / "sessions"))
    with pytest.raises(kiln_guard.RefusedError, match="leads out"):
        kept.add_session(str(archive), uncompress=True)
    assert not kept and not (tmp_path / "sessions").exists() and not archive.exists()
