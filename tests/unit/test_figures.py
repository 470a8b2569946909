"""Figures are measured, judged by today's goals, and the README says what was measured."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kiln import figures, paths
from kiln.errors import KilnError, RefusedError

ISSUE_3 = {
    "bake.full_over_bare": "<= 1.25",
    "bake.unchanged_over_full": "<= 0.02",
    "server.start_over_import": "<= 1.2",
    "proof.checks": ">= 25",
    "proof.seconds_over_boot": "reported",
}

ISSUE_4 = {
    "proof.defects_planted": ">= 45",
    "proof.defects_caught": "= proof.defects_planted",
    "proof.checks_without_defect": "= 0",
    "ansible.task_coverage": ">= 0.95",
    "image.bytes_over_plain": "<= 0.8",
    "boot.baked_over_install": "<= 0.05",
    "boot.readahead_over_plain": "reported",
}


@pytest.fixture
def checkout(build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with two promises and a README."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "tests/benchmarks").mkdir(parents=True)
    (tmp_path / "tests/benchmarks/figures.toml").write_text(
        '[[figure]]\nname = "a.ratio"\ngoal = "<= 1.25"\nmeasured = "this ÷ that"\n'
        '[[figure]]\nname = "a.count"\ngoal = ">= 25"\nmeasured = "all of them"\n'
    )
    (tmp_path / "README.md").write_text(f"# Kiln\n{figures.START}\n{figures.END}\nThe end.\n")
    return tmp_path


def test_what_is_promised() -> None:
    promised = {name: promise.goal for name, promise in figures.promises().items()}
    assert promised.items() >= {**ISSUE_3, **ISSUE_4}.items()


@pytest.mark.parametrize(
    ("goal", "value", "verdict"),
    [
        ("<= 1.25", 1.25, "met"),
        ("<= 1.25", 1.2501, "missed"),
        (">= 25", 25, "met"),
        (">= 25", 24, "missed"),
        ("reported", 7, "reported"),
        ("reported", None, "not measured"),
        (">= 25", None, "not measured"),
        ("= 0", 0, "met"),
        ("= 0", 1, "missed"),
    ],
)
def test_verdicts(goal: str, value: float | None, verdict: str) -> None:
    assert figures.Promise(name="a.b", goal=goal, measured="x").verdict(value) == verdict


@pytest.mark.parametrize(
    ("planted", "caught", "verdict"),
    [(46, 46, "met"), (46, 45, "missed"), (None, 46, "not measured"), (46, None, "not measured")],
)
def test_a_goal_may_be_another_figure(
    checkout: Path, planted: int | None, caught: int | None, verdict: str
) -> None:
    with (checkout / "tests/benchmarks/figures.toml").open("a") as listed:
        listed.write('[[figure]]\nname = "a.caught"\ngoal = "= a.count"\nmeasured = "those caught"\n')
    for name, value in (("a.count", planted), ("a.caught", caught)):
        if value is not None:
            figures.write(name, value, "make bench")
    assert {row[0]: row[3] for row in figures.rows()}["a.caught"] == verdict


def test_a_measurement_keeps_all_that_is_asked_of_it(checkout: Path, build: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    path = figures.write("a.ratio", 1.1, "make bench")
    found = json.loads(path.read_text())
    assert path == build / "figures/a.ratio.json"
    assert sorted(found) == ["command", "goal", "machine", "name", "time", "value"]
    assert (found["name"], found["value"], found["goal"], found["command"]) == (
        "a.ratio",
        1.1,
        "<= 1.25",
        "make bench",
    )
    assert "cores" in found["machine"]
    assert datetime.fromisoformat(found["time"]) >= before
    assert [each.name for each in path.parent.iterdir()] == ["a.ratio.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_no_measurement(checkout: Path, value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        figures.write("a.ratio", value, "make bench")
    assert figures.read("a.ratio") is None


def test_what_is_not_promised_is_not_written(checkout: Path, build: Path) -> None:
    with pytest.raises(KilnError, match=r"'a\.rtaio'"):
        figures.write("a.rtaio", 1, "make bench")
    assert not (build / "figures").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "figure = 1",
        '[[figure]]\nname = "a.b"',
        '[[figure]]\nname = "a.b"\ngoal = "< 3"\nmeasured = "x"',
        '[[figure]]\nname = "a.b"\ngoal = "reported"\nmeasured = "x"\n' * 2,
        '[[figure]]\nname = "a.b"\ngoal = "= a.c"\nmeasured = "x"',
        "[[",
    ],
)
def test_broken_promises_are_told(checkout: Path, text: str) -> None:
    (checkout / "tests/benchmarks/figures.toml").write_text(text)
    with pytest.raises(KilnError, match=r"figures\.toml"):
        figures.promises()


def test_a_tightened_goal_judges_what_was_measured_before(checkout: Path) -> None:
    figures.write("a.ratio", 1.2, "make bench")
    assert figures.rows()[0][3] == "met"
    listed = checkout / "tests/benchmarks/figures.toml"
    listed.write_text(listed.read_text().replace("1.25", "1.1"))
    assert figures.rows()[0][3] == "missed"


def test_the_readme_is_made_and_checked(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures.write("a.ratio", 1.2, "make bench")
    with pytest.raises(RefusedError):
        figures.check_readme()
    assert figures.main(["--readme"]) == 0
    text = (checkout / "README.md").read_text()
    assert "| `a.ratio` | 1.2 | <= 1.25 | met | " in text
    assert "| `a.count` | – | >= 25 | not measured | – | all of them |" in text
    assert text.startswith("# Kiln\n")
    assert text.endswith(f"{figures.END}\nThe end.\n")
    assert figures.main(["--check"]) == 0
    (checkout / "README.md").write_text(text.replace("| 1.2 |", "| 1.1 |"))
    assert figures.main(["--check"]) == 3
    assert "figures in README.md are not those" in capsys.readouterr().err


def test_a_machine_without_measurements_keeps_the_row_of_the_one_that_had_them(
    checkout: Path, build: Path
) -> None:
    figures.write("a.ratio", 1.2, "make bench")
    figures.write_readme()
    (build / "figures/a.ratio.json").unlink()
    figures.check_readme()
    figures.write_readme()
    assert "| `a.ratio` | 1.2 |" in (checkout / "README.md").read_text()
    listed = checkout / "tests/benchmarks/figures.toml"
    listed.write_text(listed.read_text().replace("1.25", "1.1"))
    figures.write_readme()
    assert "| `a.ratio` | – | <= 1.1 | not measured |" in (checkout / "README.md").read_text()


@pytest.mark.parametrize("text", [None, "# Kiln\n", f"{figures.END}\n{figures.START}\n"])
def test_a_readme_without_a_place_for_them(checkout: Path, text: str | None) -> None:
    (checkout / "README.md").unlink()
    if text is not None:
        (checkout / "README.md").write_text(text)
    with pytest.raises(KilnError, match="no place"):
        figures.write_readme()


def test_a_broken_measurement_is_told(checkout: Path, build: Path) -> None:
    path = figures.write("a.ratio", 1.2, "make bench")
    path.write_text("{}")
    with pytest.raises(KilnError, match="no figure"):
        figures.rows()
