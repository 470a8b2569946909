"""make bench measures on after a failure and tells of it at the end; each of its programs is there."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from kiln import figures, paths
from kiln.errors import KilnError
from scripts import archive
from tests.benchmarks import __main__ as bench
from tests.benchmarks import image_bytes, readahead


def test_a_failure_is_told_at_the_end_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ask = "import os; print(os.environ['KILN_CAMPAIGN'])"
    steps = (
        ("good", [sys.executable, "-c", "print('first')"], {}),
        ("bad", [sys.executable, "-c", "raise SystemExit(3)"], {}),
        ("last", [sys.executable, "-c", ask], {"KILN_CAMPAIGN": "whole"}),
    )  # fmt: skip
    monkeypatch.setattr(bench, "STEPS", steps)
    monkeypatch.setattr(sys, "argv", ["bench"])
    assert bench.main() == 1
    out, err = capfd.readouterr()
    assert out.splitlines() == ["== good", "first", "== bad", "== last", "whole"]
    assert err.startswith("error: bad failed\n")
    monkeypatch.setattr(bench, "STEPS", steps[::2])
    assert bench.main() == 0


def test_each_program_is_there() -> None:
    modules = [command[2] for _, command, _ in bench.STEPS if command[1] == "-m"]
    assert len(modules) == len(bench.STEPS)
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []


def test_each_promise_is_written_by_some_program() -> None:
    programs = [
        path
        for folder in ("kiln", "scripts", "tests/benchmarks", "tests/defects")
        for path in (paths.ROOT / folder).rglob("*.py")
    ]
    texts = "\n".join(path.read_text(encoding="utf-8") for path in programs)
    assert [name for name in figures.promises() if f'"{name}"' not in texts] == []


def package(version: str) -> archive.Package:
    return archive.Package(version=version, sha256="0" * 64, size=1)


def test_the_plain_root_installs_what_was_resolved_and_the_source_last(tmp_path: Path) -> None:
    lock = archive.BaseLock(
        releases={},
        base={"bash": package("1")},
        roles={"linux-image-6.1": package("2"), "chrony": package("3")},
        stage={"gcc": package("4"), "nvidia-kernel-dkms": package("535")},
    )
    image_bytes.write_settings(lock, tmp_path / "settings")
    texts = {path.name: path.read_text() for path in (tmp_path / "settings").iterdir()}
    assert texts["packages"].split() == ["chrony=3", "gcc=4", "linux-image-6.1=2"]
    assert texts["sources"].split() == ["nvidia-kernel-dkms=535"]
    assert texts["monailabel.txt"].startswith("monailabel==")
    assert "\nmonailabel==" not in texts["rest.txt"]
    assert "\ntorch==" in texts["rest.txt"]


def root_with(folder: Path, packages: dict[str, str]) -> Path:
    status = folder / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True)
    stanza = "Package: {}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {}\n\n"
    status.write_text("".join(stanza.format(*item) for item in packages.items()))
    return folder


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({"chrony": "1", "gcc": "3"}, None),
        ({"chrony": "2"}, r"chrony 1 \(plain: 2\)"),
        ({}, r"chrony 1 \(plain: none\)"),
    ],
)
def test_two_different_roots_have_no_ratio(tmp_path: Path, plain: dict[str, str], said: str | None) -> None:
    sealed = root_with(tmp_path / "sealed", {"chrony": "1", "kiln-nvidia-modules-6.1": "535"})
    other = root_with(tmp_path / "plain", plain)
    if said is None:
        image_bytes.compare(sealed, other)
        return
    with pytest.raises(KilnError, match=said):
        image_bytes.compare(sealed, other)


def test_a_hard_link_counts_once_and_a_symlink_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    os.link(tmp_path / "file", tmp_path / "again")
    (tmp_path / "link").symlink_to("file")
    assert image_bytes.size(tmp_path) == 1000


def test_the_kernel_is_started_as_the_boot_menu_does(tmp_path: Path) -> None:
    for folder in ("boot/grub", "usr/lib/modules/6.1.0-1-cloud-amd64"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "boot/vmlinuz-6.1.0-1-cloud-amd64").touch()
    menu = tmp_path / "boot/grub/grub.cfg"
    menu.write_text("menuentry Linux {\n    linux /vmlinuz root=PARTUUID=6b ro quiet\n}\n")
    assert readahead.kernel(tmp_path) == (
        tmp_path / "boot/vmlinuz-6.1.0-1-cloud-amd64",
        "root=PARTUUID=6b ro quiet",
    )
    menu.write_text("menuentry Linux {\n}\n")
    with pytest.raises(KilnError, match="starts no kernel"):
        readahead.kernel(tmp_path)


SHOW = "LoadState={}\nResult={}\nExecMainStartTimestampMonotonic={}\n"


@pytest.mark.parametrize(
    ("state", "masked", "wrong"),
    [
        (("loaded", "success", "123"), False, False),
        (("masked", "success", "0"), True, False),
        (("loaded", "success", "0"), False, True),
        (("loaded", "exit-code", "123"), False, True),
        (("not-found", "success", "0"), False, True),
        (("masked", "success", "0"), False, True),
        (("loaded", "success", "123"), True, True),
    ],
)
def test_a_boot_in_which_the_readahead_did_something_else_is_no_measurement(
    state: tuple[str, str, str], masked: bool, wrong: bool
) -> None:
    assert readahead.wrong(readahead.said(SHOW.format(*state)), masked) is wrong
