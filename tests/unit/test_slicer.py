"""3D Slicer of an image: pinned for a system, or a stand-in that says so and is what was told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kiln import config, mistakes, paths
from kiln import slicer as pinned
from kiln.errors import KilnError, UsageError
from kiln.manifest import sha256_file
from scripts import inputs, slicer
from tests.unit.roots import put

HEAD = '[project]\nname = "kiln"\nowner = "imaging"\n[image.slicer]\n'
PINNED = f"""{HEAD}
[image.slicer.slicer]
version = "5.10.0"
revision = "34045"
[image.slicer.slicer.linux]
slicer = {{ url = "https://example.org/Slicer-5.10.0-linux-amd64.tar.gz", sha256 = "{"a" * 64}" }}
extension = {{ url = "https://example.org/34045-linux-amd64-MONAILabel-git1.tar.gz", sha256 = "{"b" * 64}" }}
"""
ROLES = ["base", "slicer", "appstream", "seal"]


def image(folder: Path, text: str) -> config.Image:
    (folder / "ansible/playbooks").mkdir(parents=True, exist_ok=True)
    (folder / "ansible/playbooks/slicer.yml").touch()
    (folder / "packer/slicer").mkdir(parents=True, exist_ok=True)
    (folder / "kiln.toml").write_text(text)
    return config.load(folder / "kiln.toml").select("slicer")


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A maker of stand-ins as a program: it writes two archives and says what they are."""
    monkeypatch.setenv("KILN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(slicer, "STAND_IN", "maker")
    path = tmp_path / "maker.py"
    path.write_text(
        "import json, pathlib, sys\n"
        "names = {'slicer': 'Slicer.tar.gz', 'extension': '34045-x.tar.gz'}\n"
        "for key, name in names.items():\n"
        "    (pathlib.Path(sys.argv[1]) / name).write_text(key)\n"
        "print(json.dumps({'version': '5.10.0', 'revision': '34045', **names}))\n"
    )
    return path


def test_what_is_pinned_is_what_the_role_gets(tmp_path: Path) -> None:
    chosen = slicer.choose(image(tmp_path, PINNED), ROLES, lambda line: pytest.fail(line))
    assert chosen.lent == {}
    assert chosen.variables == {
        "slicer_kind": "real",
        "slicer_version": "5.10.0",
        "slicer_revision": "34045",
        "slicer_url": "https://example.org/Slicer-5.10.0-linux-amd64.tar.gz",
        "slicer_sha256": "a" * 64,
        "slicer_extension_url": "https://example.org/34045-linux-amd64-MONAILabel-git1.tar.gz",
        "slicer_extension_sha256": "b" * 64,
    }


def test_the_server_is_told_to_the_stand_in_too(tmp_path: Path, maker: Path) -> None:
    assert maker.is_file()
    text = (
        f'{HEAD}[image.slicer.slicer]\nversion = "5.10.0"\nrevision = "34045"\nserver_url = "http://x:8000"\n'
    )
    assert slicer.choose(image(tmp_path, text), ROLES).variables["slicer_server_url"] == "http://x:8000"


@pytest.mark.usefixtures("maker")
def test_without_a_pin_a_stand_in_is_baked_and_said_to_be_one(tmp_path: Path) -> None:
    said: list[str] = []
    chosen = slicer.choose(image(tmp_path, HEAD), ROLES, said.append)
    assert "stand-in is baked, which the channel stable refuses" in said[0]
    assert chosen.variables["slicer_kind"] == "stand-in"
    assert chosen.variables["slicer_url"] == "file:///run/kiln-build/Slicer.tar.gz"
    assert (chosen.variables["slicer_version"], chosen.variables["slicer_revision"]) == ("5.10.0", "34045")
    assert chosen.lent["Slicer.tar.gz"].read_text() == "slicer"
    for key, name in {"slicer": "Slicer.tar.gz", "slicer_extension": "34045-x.tar.gz"}.items():
        assert sha256_file(chosen.lent[name]) == chosen.variables[f"{key}_sha256"]
    # Again, from the cache: the same bytes at the same place.
    assert slicer.choose(image(tmp_path, HEAD), ROLES) == chosen


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (".write_text(key)", "", "did not make Slicer.tar.gz"),
        ("print(", "(", "did not say what it made"),
        ("print(", "print([]) or (", "did not say what it made"),
        ("print(", "sys.exit('no wheel of monailabel') or (", "no wheel of monailabel"),
    ],
)
def test_a_stand_in_that_is_not_made_stops_the_bake(
    tmp_path: Path, maker: Path, old: str, new: str, said: str
) -> None:
    maker.write_text(maker.read_text().replace(old, new))
    with pytest.raises(KilnError, match=said) as caught:
        slicer.choose(image(tmp_path, HEAD), ROLES)
    assert "by hand" in caught.value.hint


def test_an_image_without_the_role_has_none(tmp_path: Path) -> None:
    assert slicer.choose(image(tmp_path, PINNED), ["base", "seal"]) == slicer.Choice()


@pytest.mark.parametrize("text", [HEAD, PINNED])
def test_nothing_pinned_for_windows_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="pins no 3D Slicer for Windows") as caught:
        pinned.variables(image(tmp_path, text).slicer, "windows")
    assert "windows" in caught.value.hint


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("34045-linux", "33333-linux", "is for revision 33333, and Slicer is 34045"),
        ('revision = "34045"\n', "", "revision"),
        ('"5.10.0"', '"5.10"', "version"),
        ("a" * 64, "A" * 64, "sha256"),
        ("https://example.org/Slicer", "ftp://example.org/Slicer", "url"),
        ("extension =", "extensions =", "extensions"),
    ],
)
def test_what_cannot_be_meant_is_told_by_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in PINNED
    with pytest.raises(UsageError, match=said) as caught:
        image(tmp_path, PINNED.replace(old, new))
    assert "kiln.toml:" in caught.value.what


def test_every_field_is_described_with_an_example() -> None:
    for model in (pinned.Download, pinned.Archives, pinned.Slicer):
        for name, field in model.model_fields.items():
            assert field.description, name
            assert field.examples or "Archives" in str(field.annotation), name
            for example in field.examples or []:
                assert mistakes.line(name, field)
                model.__pydantic_validator__.validate_assignment(model.model_construct(), name, example)


def test_variables_are_the_roles_own() -> None:
    """What kiln.toml leads to, the role knows."""
    from scripts.role_readme import ROLES as FOLDER
    from tests.unit.test_roles import options

    archives = pinned.Archives.model_validate(
        {name: {"url": "https://x/y", "sha256": "a" * 64} for name in ("slicer", "extension")}
    )
    said = pinned.Slicer(version="5.10.0", revision="34045", server_url="http://x", windows=archives)
    specs = options(FOLDER / pinned.ROLE)
    assert pinned.variables(said, "windows").keys() <= specs.keys()
    assert specs["slicer_kind"]["choices"] == ["real", "stand-in"]


def test_a_resolved_stand_in_is_part_of_the_digest(tmp_path: Path, maker: Path) -> None:
    before = slicer.choose(image(tmp_path, HEAD), ROLES).variables
    maker.write_text(maker.read_text().replace("write_text(key)", "write_text(key * 2)"))
    assert slicer.choose(image(tmp_path, HEAD), ROLES).variables != before
    assert "slicer_packages_installed" in inputs.variables(image(tmp_path, HEAD), ["slicer"])


def test_what_the_role_wrote_is_read(tmp_path: Path) -> None:
    assert slicer.installed(tmp_path) is None
    wrote = {
        "kind": "stand-in", "version": "5.10.0", "revision": "34045", "home": "/opt/slicer",
        "extension": {"name": "MONAILabel", "archive": "34045-x", "revision": "34045", "path": "/opt/x"},
        "licences": [],
    }  # fmt: skip
    put(tmp_path / pinned.FACTS, json.dumps(wrote))
    found = slicer.installed(tmp_path)
    assert found is not None
    assert (found.kind, found.version, found.home) == ("stand-in", "5.10.0", "/opt/slicer")
    put(tmp_path / pinned.FACTS, json.dumps(wrote | {"version": "newest"}))
    with pytest.raises(KilnError, match=r"slicer\.json: version"):
        slicer.installed(tmp_path)
