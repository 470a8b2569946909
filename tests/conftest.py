"""What every test stands on: a build folder and a cache of its own, never the checkout's."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# Other work on the machine must not turn a slow example into a failure; what fails is printed to run again.
hypothesis.settings.register_profile("kiln", deadline=None, print_blob=True)
hypothesis.settings.load_profile("kiln")

# nohup and a shell's & start pytest with these ignored, which its children would inherit: kiln keeps what is
# ignored so, and a test that stops it would wait for ever. A handler of our own is no such heritage.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)


SIDES = dict.fromkeys(("guest", "server", "gateway"), "processes")
"""Folder of tests → the worker that runs it, all other folders share one. Guests, servers and nginx are
processes with folders of their own and can go beside containers; two tests that fill the same containers or
caches cannot go beside each other."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``--dist loadscope`` the sides are the scopes.

    Marks of ``loadgroup`` would be the shorter way: with pytest 9.2 xdist 3.8 passes over them
    (its issue 1386).
    """
    from xdist.scheduler import LoadScopeScheduling

    class Sides(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            folder = nodeid.removeprefix("tests/").partition("/")[0]
            return SIDES.get(folder, "containers")

    return Sides(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty build folder that kiln uses, in this process and in those it starts."""
    folder = tmp_path / "build"
    folder.mkdir()
    monkeypatch.setenv("KILN_BUILD", str(folder))
    return folder
