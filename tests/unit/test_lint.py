"""make lint sees a defect of every kind that it looks for; a linter that cannot fail is none."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from kiln import paths
from scripts import lint

BY_NAME = {linter.name: linter for linter in lint.LINTERS}

COPIED = (
    ".ansible-lint",
    ".gitignore",
    ".pre-commit-config.yaml",
    ".yamllint",
    "ansible",
    "ansible.cfg",
    "kiln",
    "launch",
    "packer",
    "pyproject.toml",
    "scripts",
)

# Well formed and of known words: only full validation asks the builder.
SOURCE = """
source "docker" "planted" {
  image = "debian"
}

build {
  sources = ["source.docker.planted"]
}
"""

# Folded: one line to the shell, six to the reader.
LONG_TASK = """
- name: Planted
  ansible.builtin.shell: >-
    one &&
    two &&
    three &&
    four &&
    five &&
    six
"""
LONG_IN_A_BLOCK = """
- name: Planted
  block:
    - name: In it
      ansible.builtin.command:
        argv:
          - one
          - two
          - three
          - four
          - five
          - six
"""

# Linter, file, what is put at its end, and what the linter says of it.
PLANTED = [
    (
        "ansible-lint",
        "ansible/roles/seal/tasks/main.yml",
        "\n- ansible.builtin.command: reboot\n",
        "name[missing]",
    ),
    (
        "mypy",
        "kiln/errors.py",
        "\n\ndef planted(x: int) -> str:\n    return x\n",
        "Incompatible return value",
    ),
    ("packer", "packer/monai-label/build.pkr.hcl", "locals {\na = 1\n}\n", "build.pkr.hcl"),
    ("packer", "packer/monai-label/sources.pkr.hcl", SOURCE, "No instructions given"),
    ("role README", "ansible/roles/seal/README.md", "More.\n", "seal"),
    ("ruff check", "kiln/errors.py", "\n\nimport os\n", "F401"),
    ("ruff check", "scripts/bake.py", "\n\ndef planted():\n    return 1\n", "D103"),
    ("ruff format", "kiln/errors.py", "\nplanted = {  'a':1 }\n", "errors.py"),
    ("schemas", "kiln/schemas/manifest.schema.json", "\n", "manifest.schema.json"),
    ("shell tasks", "ansible/roles/seal/tasks/clean.yml", LONG_TASK, "seal/tasks/clean.yml"),
    ("shell tasks", "ansible/roles/base/handlers/main.yml", LONG_IN_A_BLOCK, "base/handlers/main.yml"),
    ("shellcheck", "scripts/setup.sh", "\nrm -r $1/*\n", "SC2086"),
    ("yamllint", "ansible/playbooks/monai_label.yml", "planted:   1\n", "too many spaces after colon"),
]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine")
    for name in COPIED:
        source = paths.ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        elif source.exists():
            shutil.copy(source, folder / name)
    return folder


@pytest.mark.parametrize(("name", "file", "defect", "said"), PLANTED, ids=[f"{p[0]}-{p[3]}" for p in PLANTED])
def test_a_planted_defect_is_seen(
    pristine: Path, tmp_path: Path, name: str, file: str, defect: str, said: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(pristine, copy, symlinks=True)
    before = lint.lint(BY_NAME[name], copy)
    with (copy / file).open("a") as stream:
        stream.write(defect)
    after = lint.lint(BY_NAME[name], copy)
    assert not after.passed
    assert said in after.output
    # Not some other fault that was there all along.
    assert said not in before.output


@pytest.mark.parametrize(
    "task",
    [
        "ansible.builtin.shell: |\n    one\n    two\n    three\n    four\n    five\n",
        "ansible.builtin.command: one two\n",
        "ansible.builtin.debug:\n    msg: |\n      1\n      2\n      3\n      4\n      5\n      6\n",
        "ansible.builtin.command:\n    cmd: one\n  environment:\n    A: 1\n    B: 2\n    C: 3\n    D: 4\n",
    ],
)
def test_what_is_no_long_program_is_let_pass(pristine: Path, tmp_path: Path, task: str) -> None:
    (tmp_path / "ansible").mkdir()
    (tmp_path / "scripts").symlink_to(pristine / "scripts")
    (tmp_path / "ansible/tasks.yml").write_text(f"- name: Short\n  {task}\n- name: Next\n  x: y\n")
    assert lint.lint(BY_NAME["shell tasks"], tmp_path).passed


def hooked(text: str) -> dict[str, dict[str, str]]:
    """The hook that runs a linter, by the linter's name."""
    hooks = [hook for repo in YAML(typ="safe").load(text)["repos"] for hook in repo["hooks"]]
    return {name: hook for hook in hooks for name in _only(hook["entry"])}


def _only(entry: str) -> list[str]:
    words = shlex.split(entry)
    return [after for word, after in itertools.pairwise(words) if word == "--only"]


def test_every_linter_is_a_hook() -> None:
    assert set(hooked((paths.ROOT / ".pre-commit-config.yaml").read_text())) == set(BY_NAME)


@pytest.mark.parametrize(("name", "file"), sorted({(name, file) for name, file, *_ in PLANTED}))
def test_a_hook_looks_when_its_linter_would_see_something(name: str, file: str) -> None:
    hook = hooked((paths.ROOT / ".pre-commit-config.yaml").read_text())[name]
    assert re.search(hook.get("files", ""), file)
    if name == "ansible-lint":
        assert re.search(hook["files"], "molecule/seal/converge.yml")


def test_every_linter_has_its_planted_defect() -> None:
    assert {name for name, *_ in PLANTED} == set(BY_NAME)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_a_checkout_without_files_passes_no_linter(tmp_path: Path, name: str) -> None:
    assert not lint.lint(BY_NAME[name], tmp_path).passed


def test_a_missing_program_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lint, "BIN", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = lint.lint(BY_NAME["shellcheck"], paths.ROOT)
    assert not outcome.passed
    assert "shellcheck is not installed" in outcome.output


def test_a_failure_is_told_with_how_to_run_it_again(
    pristine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lint.run(pristine, ["shellcheck", "yamllint"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[:2] for line in out) == [["ok", "shellcheck"], ["ok", "yamllint"]]
    assert all(line.endswith(" s") for line in out)
    assert lint.run(Path("/nonexistent"), ["yamllint"]) == 1
    assert "lint failed: yamllint\n" in (told := capsys.readouterr().err)
    assert "--only 'yamllint'" in told
