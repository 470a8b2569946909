"""What images, show and every look-up of a version tell."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kiln.errors import KilnError, UsageError
from scripts import images
from tests.unit import contract, test_compat

OLD, NEW = "20250101T000000Z-01234567", "20260101T000000Z-89abcdef"


def snapshot(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns) for path in folder.rglob("*"))


def test_nothing_is_there(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images.print_images(as_json=False)
    assert "kiln bake" in capsys.readouterr().out
    images.print_images(as_json=True)
    assert json.loads(capsys.readouterr().out) == []
    shutil.rmtree(build)
    assert images.find() == {}


def test_latest_is_what_the_link_says_not_what_is_newest(build: Path) -> None:
    old = contract.put(build, version=OLD, verdict="passed")
    contract.put(build, version=NEW, verdict="refused")
    assert images.resolve("tiny") == old
    assert images.resolve("tiny", "latest") == old
    assert images.resolve("tiny", NEW).name == NEW


def test_what_is_not_there_names_what_is(build: Path) -> None:
    contract.put(build, version=OLD, verdict="passed")
    with pytest.raises(UsageError) as caught:
        images.resolve("tinny")
    assert "did you mean 'tiny'?" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        images.resolve("tiny", OLD.replace("2025", "2024"))
    assert OLD in caught.value.hint


def test_no_image_at_all(build: Path) -> None:
    with pytest.raises(UsageError) as caught:
        images.resolve("tiny")
    assert caught.value.hint == "bake it: kiln bake tiny"


@pytest.mark.parametrize(("verdict", "word"), [(None, "unproven"), ("refused", "refused")])
def test_without_a_proof_there_is_no_latest(build: Path, verdict: str | None, word: str) -> None:
    contract.put(build, verdict=verdict)
    with pytest.raises(KilnError, match=f"is {word}") as caught:
        images.resolve("tiny")
    assert f"kiln prove tiny@{contract.VERSION}" in caught.value.hint


def test_a_proof_of_other_bytes_proves_nothing(build: Path) -> None:
    folder = contract.put(build, verdict="passed")
    assert images.Version(folder).verdict == "passed"
    written = folder / "manifest.json"
    written.write_text(written.read_text().replace("1.6.6", "1.6.7"))
    assert images.Version(folder).verdict == "unproven"


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"contract": 2}', "\0"])
def test_a_broken_manifest_is_listed_and_never_used(
    build: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = contract.put(build, verdict="passed")
    contract.put(build, version=NEW)
    (folder / "manifest.json").write_text(text)
    images.print_images(as_json=True)
    assert [row["verdict"] for row in json.loads(capsys.readouterr().out)] == ["unproven", "unreadable"]
    images.print_images(as_json=False)
    assert "unreadable" in capsys.readouterr().out
    with pytest.raises(KilnError, match=r"manifest\.json"):
        images.resolve("tiny", contract.VERSION)


def test_a_link_to_nothing_is_no_latest(build: Path) -> None:
    folder = contract.put(build, verdict="passed")
    contract.put(build, version=NEW)
    shutil.rmtree(folder)
    with pytest.raises(KilnError, match="no proven version"):
        images.resolve("tiny")


def test_other_folders_are_no_images(build: Path) -> None:
    (build / "logs").mkdir()
    (build / "figures").mkdir()
    (build / "tiny/.work/abc").mkdir(parents=True)
    assert images.find() == {}


def test_table_and_json_tell_the_same(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contract.put(build, version=OLD, verdict="passed")
    contract.put(build, version=NEW, verdict="refused")
    before = snapshot(build)
    images.print_images(as_json=True)
    rows = json.loads(capsys.readouterr().out)
    images.print_images(as_json=False)
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [row["version"] for row in rows] == [OLD, NEW]
    assert [row["latest"] for row in rows] == ["(latest)" in line for line in lines] == [True, False]
    assert [row["verdict"] in line for row, line in zip(rows, lines, strict=True)] == [True, True]
    assert "45 MB" in lines[0]
    assert "2, 1 failed" in lines[1]
    assert snapshot(build) == before


def test_show_tells_why_a_version_was_refused(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contract.put(build, verdict="refused")
    images.print_version("tiny", None, as_json=False)
    text = capsys.readouterr().out
    for part in (
        "1 of 2 checks",
        "live::test_b: sshd has the host key",
        "6.1.0-1-cloud-amd64",
        "with changes",
    ):
        assert part in text
    images.print_version("tiny", contract.VERSION, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["manifest"]["facts"]["roles"] == ["base", "seal"]
    assert document["proof"]["verdict"] == document["verdict"] == "refused"


def with_driver(build: Path, until: str) -> None:
    """A proven version with Debian's driver and a waiver."""
    folder = contract.put(build, verdict="passed")
    made = json.loads((folder / "manifest.json").read_text())
    stack = test_compat.STACK
    assert stack.driver is not None
    made["facts"] |= {
        "kernel": stack.kernel,
        "driver": stack.driver.model_dump(mode="json"),
        "torch": stack.torch,
        "cuda": stack.cuda,
        "architectures": stack.architectures,
        "settings_schemas": [1, 2],
    }
    (folder / "manifest.json").write_text(json.dumps(made))
    proof = contract.checked(folder).model_dump(mode="json")
    waiver = {"check": "driver-support", "reason": "580 in the next release", "until": until}
    proof["demand"] = {"instance_types": ["g5.xlarge", "g7e.2xlarge", "c6i.large"], "waivers": [waiver]}
    waived = {"outcome": "waived", "message": "R535 has ended [so to say]", "waiver": waiver}
    proof["checks"].append({"id": "static::test_d", "stage": "static", "seconds": 0, **waived})
    (folder / "proof.json").write_text(json.dumps(proof))


@pytest.mark.parametrize(("until", "outcome"), [("9999-12-31", "waived"), ("2020-01-01", "not-for-stable")])
def test_show_tells_which_instance_types_an_image_suits(
    build: Path, capsys: pytest.CaptureFixture[str], until: str, outcome: str
) -> None:
    with_driver(build, until)
    images.print_version("tiny", None, as_json=False)
    text = capsys.readouterr().out
    for line in (
        "2 of 2 checks",
        "535.309.01, proprietary modules",
        "gpu code",
        "schema 1, 2",
        "g5.xlarge (1 × A10G, compute 8.6): suits",
        "g7e.2xlarge (1 × RTX PRO 6000 Blackwell, compute 12.0): refused: ",
        "c6i.large (no GPU): suits",
        "static::test_d: R535 has ended [so to say]",
    ):
        assert line in text, text
    assert [line.split()[0] for line in text.splitlines() if "static::test_d" in line] == [outcome]
    images.print_images(as_json=True)
    assert [row["failed"] for row in json.loads(capsys.readouterr().out)] == [0]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (45_000_000, "45 MB"), (5_200_000_000, "5.20 GB")],
)
def test_sizes(count: int, text: str) -> None:
    assert images.size(count) == text
