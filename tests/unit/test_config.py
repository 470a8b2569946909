"""kiln.toml: every mistake is told by its line, and none by a traceback."""

from __future__ import annotations

import itertools
import re
import shutil
from datetime import date
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from ruamel.yaml import YAML

from kiln import appstream, config, mistakes, paths
from kiln.errors import UsageError

GOOD = """\
# A comment first.
[project]
name = "kiln"
owner = "imaging"

[image.monai-label]
app = "radiology"
models = [
  "segmentation_spleen",
  "deepedit",
]
weights = "random"
root_gb = 40
driver = "debian"
instance_types = ["g5.xlarge", "g4dn.xlarge"]

[[waiver]]
check = "driver-support"
reason = "the next release has it"
until = 2027-03-31
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the playbook and the template that GOOD implies."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "ansible/playbooks").mkdir(parents=True)
    (folder / "ansible/playbooks/monai_label.yml").touch()
    (folder / "packer/monai-label").mkdir(parents=True)
    return folder


def load(folder: Path, text: str | bytes) -> config.Config:
    path = folder / "kiln.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return config.load(path)


def refused(folder: Path, text: str | bytes) -> UsageError:
    with pytest.raises(UsageError) as caught:
        load(folder, text)
    for part in (caught.value.what, caught.value.hint):
        assert part
        assert "\n" not in part
    return caught.value


def test_the_checkout_s_own() -> None:
    assert config.load(paths.ROOT / "kiln.toml").select("monai-label").app == "radiology"


def test_paths_are_beside_the_file_wherever_it_is_read_from(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image = load(folder, GOOD).select("monai-label")
    assert image.playbook == folder / "ansible/playbooks/monai_label.yml"
    assert image.template == folder / "packer/monai-label"
    monkeypatch.chdir(folder)
    assert config.load(Path("kiln.toml")).select("monai-label") == image


def test_another_file_by_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(folder, GOOD.replace("imaging", "others"))
    monkeypatch.setenv("KILN_CONFIG", str(folder / "kiln.toml"))
    assert config.load().project.owner == "others"


def test_an_unknown_image_gets_the_known_ones(folder: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(folder, GOOD).select("monai-lable")
    assert caught.value.hint == "did you mean 'monai-label'? images: monai-label"


# What is changed in GOOD, the line that must be named, what must be told, what must be offered.
MISTAKES = [
    ("models = [", "modles = [", 8, "unknown key image.monai-label.modles", "did you mean 'models'?"),
    ("[project]", "[projct]", 2, "unknown key projct", "did you mean 'project'?"),
    ("until =", "untill =", 20, "unknown key waiver[1].untill", "did you mean 'until'?"),
    ("root_gb = 40", 'root_gb = "40"', 13, "root_gb is '40': not a whole number", "root_gb = 40"),
    ("root_gb = 40", "root_gb = true", 13, "root_gb is True: not a whole number", "root_gb = 40"),
    ("root_gb = 40", "root_gb = 40.0", 13, "root_gb is 40.0: not a whole number", "root_gb = 40"),
    ("root_gb = 40", "root_gb = 0", 13, "root_gb is 0: less than 1", "root_gb = 40"),
    ('  "deepedit",', "  3,", 8, "models[2] is 3: not text in quotes", 'models = ["segmentation_spleen"]'),
    ('  "deepedit",', '  "../x",', 8, "models[2] is '../x'", 'models = ["segmentation_spleen"]'),
    ('"random"', '"radnom"', 12, "weights is 'radnom'", "'pinned' or 'random'"),
    ('"random"', '"test"', 12, "weights is 'test'", "'pinned' or 'random'"),
    ('weights = "random"', "", 6, "app and models without weights", 'add weights = "pinned"'),
    ('app = "radiology"', "", 6, "models and weights without app", 'add app = "radiology"'),
    ('owner = "imaging"', "", 2, "project.owner is missing", 'add owner = "imaging"'),
    ('owner = "imaging"', 'owner = ""', 4, "owner is ''", "team that answers"),
    ("[image.monai-label]", "[image.Monai_label]", 6, "image.Monai_label is 'Monai_label'", ""),
    ("[image.monai-label]", "[image.other]", 6, "there is no file", "playbook = "),
    ("[image.monai-label]", "[image]", 7, "image.app is 'radiology': not a table", "a table with the keys"),
    ("root_gb = 40", 'playbook = "no.yml"', 13, "there is no file", "playbook = "),
    ("root_gb = 40", 'template = "packer/no"', 13, "there is no folder", "template = "),
    ("root_gb = 40", 'base = "debian-13"', 13, "base is 'debian-13'", "'debian-12'"),
    ("2027-03-31", '"2027-03-31"', 20, "until is '2027-03-31': not a date", "until = 2027-03-31"),
    ('"driver-support"', '"driver-suport"', 18, "no check of that name can be waived", "check = "),
    ('"driver-support"', '"driver-gpu"', 18, "driver-support can", 'check = "driver-support"'),
    ('reason = "the next release has it"', 'reason = "later"', 19, "shorter than 10 characters", "reason = "),
    ('reason = "the next release has it"', "", 17, "waiver[1].reason is missing", "add reason = "),
    ("until = 2027-03-31", "", 17, "waiver[1].until is missing", "add until = 2027-03-31"),
    ('"debian"', '"ubuntu"', 14, "driver is 'ubuntu'", "'debian', 'nvidia_repository' or 'preinstalled'"),
    (
        '"g4dn.xlarge"',
        '"g4dm.xlarge"',
        15,
        "instance_types[2]: g4dm.xlarge is an unknown",
        "EC2 instance types",
    ),
    ('"g5.xlarge"', '"g5.3xlarge"', 15, "instance_types[1]: g5.3xlarge is an unknown", "EC2 instance types"),
    ('"g5.xlarge"', '"g5"', 15, "instance_types[1] is 'g5': it must match", "EC2 instance types"),
    ("root_gb = 40", "root_gb = fourty", 13, "this is no TOML: Invalid value", "text needs quotes"),
    ("root_gb = 40", 'root_gb = 40\napp = "x"', 14, "Cannot overwrite a value", "may stand once"),
    ('app = "radiology"', 'app = "radiology', 7, "Illegal character", "text ends on its own line"),
    ("[project]", "[project", 2, "this is no TOML", ""),
    ("2027-03-31", "2027-13-31", 20, "this is no TOML", ""),
]


@pytest.mark.parametrize(("old", "new", "line", "what", "hint"), MISTAKES)
def test_mistakes(folder: Path, old: str, new: str, line: int, what: str, hint: str) -> None:
    assert GOOD.count(old) == 1
    error = refused(folder, GOOD.replace(old, new))
    assert error.what.startswith(f"{folder / 'kiln.toml'}:{line}: ")
    assert what in error.what
    assert hint in error.hint


AWS = """\
[project]
name = "kiln"
owner = "imaging"
bucket = "kiln-records"

[image.monai-label.publish]
regions = ["us-east-1", "eu-west-1"]
share_with = ["222233334444"]
kms_key = "alias/kiln"
keep = 3

[target.annotators]
image = "monai-label"
channel = "stable"
region = "us-east-1"
group = "kiln-annotators"
min_healthy = 100
checkpoints = [20, 100]

[target.readers]
image = "monai-label"
channel = "dev"
region = "us-east-1"
fleet = "kiln-readers"
"""

# As MISTAKES, of AWS. What pydantic calls the kind of a value ("group", "str") must appear nowhere.
AWS_MISTAKES = [
    ('"kiln-records"', '"Kiln"', 4, "project.bucket is 'Kiln': it must match", 'bucket = "kiln-records-'),
    ("regions =", "region =", 7, "unknown key image.monai-label.publish.region", "did you mean 'regions'?"),
    (
        '["us-east-1", "eu-west-1"]',
        "[]",
        7,
        "publish.regions is []: nothing is in it",
        'regions = ["us-east-1"',
    ),
    ('"eu-west-1"]', '"ireland"]', 7, "publish.regions[2] is 'ireland': it must match", "regions = ["),
    ('"eu-west-1"]', '"us-east-1"]', 7, "publish.regions: a region stands twice", "name each region once"),
    (
        '"222233334444"',
        "222233334444",
        8,
        "publish.share_with[1] is 222233334444: not text",
        "share_with = [",
    ),
    ('"222233334444"', '"all"', 8, "publish.share_with[1] is 'all': it must match", "an image is private"),
    ('kms_key = "alias/kiln"', "", 6, "publish: share_with needs kms_key", 'add kms_key = "alias/...'),
    ('"alias/kiln"', "3", 9, "publish.kms_key is 3: not text in quotes", 'kms_key = "alias/kiln"'),
    (
        '"alias/kiln"',
        '{ us-east-1 = "k" }',
        9,
        "publish.kms_key: it has no key for eu-west-1",
        "a key, or one",
    ),
    ('"alias/kiln"', "{ us-east-1 = 3 }", 9, "publish.kms_key.us-east-1 is 3: not text", "customer key"),
    ("keep = 3", "keep = 0", 10, "publish.keep is 0: less than 1", "keep = 5"),
    ("keep = 3", 'encrypt = "no"', 10, "publish.encrypt is 'no': neither true nor false", "encrypt = false"),
    ("keep = 3", "encrypt = false", 9, "publish.kms_key: kms_key without encryption", "take one of the two"),
    ("checkpoints =", "checkpoint =", 18, "unknown key target.annotators.checkpoint", "mean 'checkpoints'?"),
    ("[20, 100]", "[20, 50]", 18, "annotators.checkpoints: checkpoints must end at 100", "append 100"),
    ("[20, 100]", "[20, 100, 200]", 18, "annotators.checkpoints[3] is 200: more than 100", "checkpoints = ["),
    (
        "[20, 100]",
        "[50, 20, 100]",
        18,
        "annotators.checkpoints: checkpoints must rise",
        "write [20, 50, 100]",
    ),
    ("[20, 100]", "100", 18, "annotators.checkpoints is 100: not a list", "checkpoints = [20, 50, 100]"),
    ("min_healthy = 100", "min_healthy = 101", 17, "annotators.min_healthy is 101: more than 100", "= 100"),
    ("min_healthy = 100", "min_healthy = 50", 17, "max_healthy may be 100 more", "set max_healthy = 150"),
    ("min_healthy = 100", "max_healthy = 100", 17, "leave no instance to replace", "raise max_healthy"),
    ('group = "kiln-annotators"', "", 12, "target.annotators: it names no group and no fleet", "add group ="),
    ('group = "kiln-annotators"', 'grop = "x"', 16, "unknown key target.annotators.grop", "mean 'group'?"),
    ('fleet = "kiln-readers"', 'flet = "x"', 24, "unknown key target.readers.flet", "mean 'fleet'?"),
    ('fleet = "kiln-readers"', 'fleet = "-"', 24, "target.readers.fleet is '-'", 'fleet = "kiln-readers"'),
    ('fleet = "kiln-readers"', 'fleet = "a"\ngroup = "b"', 24, "group or a fleet, and both", "take one away"),
    (
        'fleet = "kiln-readers"',
        'fleet = "a"\nalarms = []',
        25,
        "unknown key target.readers.alarms",
        "keys here",
    ),
    (
        'fleet = "kiln-readers"',
        'fleet = "a"\nview = "X"',
        25,
        "target.readers.view is 'X'",
        "'APP' or 'DESKTOP'",
    ),
    ('channel = "dev"', "channel = 3", 22, "target.readers.channel is 3: not text", 'channel = "stable"'),
    ('channel = "dev"', "", 20, "target.readers.channel is missing", 'add channel = "stable"'),
    (
        "[target.readers]",
        "[target.Readers]",
        20,
        "target.Readers is 'Readers': it must match",
        "small letters",
    ),
]


@pytest.mark.parametrize(("old", "new", "line", "what", "hint"), AWS_MISTAKES)
def test_mistakes_of_aws(folder: Path, old: str, new: str, line: int, what: str, hint: str) -> None:
    assert AWS.count(old) == 1
    error = refused(folder, AWS.replace(old, new))
    assert error.what.startswith(f"{folder / 'kiln.toml'}:{line}: ")
    assert what in error.what
    assert hint in error.hint
    assert "[target." not in error.hint and ".NAME]" not in error.hint


def test_a_target_of_an_image_that_is_not_here(folder: Path) -> None:
    head, _, tail = AWS.rpartition('image = "monai-label"')
    error = refused(folder, head + 'image = "monai-lable"' + tail)
    assert "kiln.toml:21: target.readers.image: this file has no image 'monai-lable'" in error.what
    assert error.hint == "did you mean 'monai-label'? images: monai-label"


def test_what_aws_has_comes_as_it_is_written(folder: Path) -> None:
    read = load(folder, AWS)
    assert read.records() == "kiln-records"
    assert read.publication("monai-label").regions == ["us-east-1", "eu-west-1"]
    group, fleet = read.aim("annotators"), read.aim("readers")
    assert isinstance(group, config.GroupTarget) and group.checkpoints == [20, 100]
    assert isinstance(fleet, config.FleetTarget) and fleet.fleet == "kiln-readers"
    with pytest.raises(UsageError) as caught:
        read.aim("annotator")
    assert caught.value.hint == "did you mean 'annotators'? targets: annotators, readers"


def test_the_examples_in_kiln_toml_hold(folder: Path) -> None:
    """Whoever takes the # away must get what stands beside it."""
    own = (paths.ROOT / "kiln.toml").read_text()
    text = re.sub(r"^# (?=\[|[a-z_]+ = )", "", own, flags=re.MULTILINE)
    assert text.count("\n[") > own.count("\n[")
    (folder / "ansible/playbooks/slicer.yml").touch()
    (folder / "packer/slicer").mkdir(exist_ok=True)
    read = load(folder, text)
    assert set(read.target) == {"annotators", "readers"}
    assert read.records()


def test_what_aws_needs_and_kiln_toml_lacks_is_told(folder: Path) -> None:
    read = load(folder, GOOD)
    with pytest.raises(UsageError, match="names no bucket"):
        read.records()
    with pytest.raises(UsageError, match="does not say where monai-label goes"):
        read.publication("monai-label")
    with pytest.raises(UsageError) as caught:
        read.aim("annotators")
    assert caught.value.hint == "there are no targets"


SERVER = {"app": 'app = "radiology"', "models": 'models = ["deepedit"]', "weights": 'weights = "random"'}


@pytest.mark.parametrize("given", [keys for n in (1, 2) for keys in itertools.combinations(SERVER, n)])
def test_a_server_is_whole(folder: Path, given: tuple[str, ...]) -> None:
    text = '[project]\nname = "kiln"\nowner = "imaging"\n[image.monai-label]\n'
    missing = [key for key in SERVER if key not in given]
    error = refused(folder, text + "\n".join(SERVER[key] for key in given))
    assert f"{' and '.join(given)} without {' and '.join(missing)}" in error.what
    assert error.hint.startswith(f"add {missing[0]} = ")
    assert all(f"{key} = " in error.hint for key in missing)
    for keys in ((), tuple(SERVER)):
        image = load(folder, text + "\n".join(SERVER[key] for key in keys)).select("monai-label")
        assert bool(image.app) is bool(image.models) is bool(image.weights) is bool(keys)


def test_weights_are_those_that_the_role_accepts(folder: Path) -> None:
    specs = YAML(typ="safe").load(paths.ROOT / "ansible/roles/monai_label/meta/argument_specs.yml")
    accepted = specs["argument_specs"]["main"]["options"]["monai_label_weights"]["choices"]
    for origin in accepted:
        assert load(folder, GOOD.replace('"random"', f'"{origin}"')).select("monai-label").weights == origin
    refused(folder, GOOD.replace('"random"', '"test"'))


def test_what_a_driver_is_judged_against(folder: Path) -> None:
    past = GOOD.replace("2027-03-31", "2020-01-01")
    for text, until in ((GOOD, date(2027, 3, 31)), (past, date(2020, 1, 1))):
        demand = load(folder, text).demand("monai-label")
        assert demand.instance_types == ["g5.xlarge", "g4dn.xlarge"]
        assert [(one.check, one.until) for one in demand.waivers] == [("driver-support", until)]


def test_every_mistake_is_counted(folder: Path) -> None:
    error = refused(folder, GOOD.replace("root_gb = 40", "root_gb = 0").replace("2027-03-31", "7"))
    assert error.what.endswith("(and 1 more)")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"", r":1: project is missing"),
        (GOOD.encode().replace(b"imaging", b"imag\xefng"), r":4: byte 0xef is not UTF-8"),
        (b"\xff\xfe", r":1: byte 0xff"),
        (b"x = " + b"[" * 5000, "this is no TOML"),
        (b"x = " + b"9" * 5000, "this is no TOML"),
        (b"x\0 = 1", r":1: this is no TOML"),
        (b'x = """\n\n', r":3: this is no TOML: Unterminated"),
    ],
)
def test_what_is_hardly_toml(folder: Path, text: bytes, what: str) -> None:
    assert re.search(what, refused(folder, text).what)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, what in (
        (tmp_path / "none.toml", "No such file"),
        (tmp_path, "Is a directory"),
        (tmp_path / ("x" * 300), "File name too long"),
        (Path("null\0byte"), "null"),
    ):
        with pytest.raises(UsageError, match=what):
            config.load(path)


def test_a_default_that_is_missing_is_told_at_the_image(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy/packer/monai-label").rmdir()
    error = refused(tmp_path / "copy", GOOD)
    assert "kiln.toml:6: image.monai-label.template: there is no folder" in error.what


LINES = GOOD.splitlines(keepends=True)


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """GOOD with lines lost, doubled, swapped, and characters put anywhere."""
    lines = list(LINES)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(len(lines) - 1, 0)))
        match draw(st.sampled_from(["drop", "double", "move"])):
            case "drop":
                del lines[at : at + 1]
            case "double":
                lines[at:at] = lines[at : at + 1]
            case "move":
                lines.append(lines.pop(at) if lines else "")
    text = "".join(lines).encode()
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        new = draw(st.binary(max_size=3) | st.sampled_from([b"[", b"=", b"\n", b"[[", b"{", b"'''"]))
        text = text[:at] + new + text[at:]
    return text


@given(text=mangled() | st.binary(max_size=40))
def test_no_document_gives_a_traceback(folder: Path, text: bytes) -> None:
    try:
        load(folder, text)
    except UsageError as error:
        assert error.hint
        assert "\n" not in error.what + error.hint
        found = re.match(rf"{re.escape(str(folder))}/kiln\.toml(:(\d+))?: ", error.what)
        assert found
        assert 1 <= int(found[2] or 1) <= text.count(b"\n") + 1


@given(data=st.data())
def test_line_of_finds_every_key_of_every_document(data: st.DataObject) -> None:
    """Documents are written from statements whose lines are known; comments and blanks stand between."""
    names = data.draw(st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1))
    values = st.sampled_from(["1", '"""\n[x]\ny = 1\n"""', "[\n  1,\n  2,\n]", "'#'", '{ k = "]" }'])
    text, expected = "", {}
    for name in names:
        text += data.draw(st.sampled_from(["", "\n", "# a = 1\n", f"[{name}x]\n"]))
        table = (f"{name}x",) if text.endswith(f"[{name}x]\n") else None
        if table is None:
            text += f"[{name}]\n"
            table = (name,)
        expected[(*table, "key")] = text.count("\n") + 1
        text += f"key = {data.draw(values)}\n"
    for key, line in expected.items():
        assert mistakes.line_of(text, key) == line
        assert mistakes.line_of(text, (*key[:-1], "missing")) <= line


def test_every_field_is_described_and_has_an_example() -> None:
    aws = (config.Publish, config.GroupTarget, config.FleetTarget)
    streamed = (appstream.Appstream, appstream.Application, appstream.Builder)
    for model in (config.Project, config.Image, config.Waiver, *aws, *streamed):
        for name, field in model.model_fields.items():
            assert field.description, name
            tables = ("Publish", "Appstream", "Builder", "Application")
            assert field.examples or any(each in str(field.annotation) for each in tables), name


def test_every_example_is_taken() -> None:
    """An example is offered to whoever has it wrong: it must be right."""
    for model in (config.Publish, config.GroupTarget, config.FleetTarget, appstream.Builder):
        for field in model.model_fields.values():
            taken = TypeAdapter(Annotated[(field.annotation, *field.metadata, "an example")])
            for example in field.examples or []:
                taken.validate_python(example, strict=True)


def test_what_was_written_is_told_before_a_default_place_that_is_not_there(tmp_path: Path) -> None:
    """A copy of kiln.toml in another folder: its playbook is not there, but that is not the mistake."""
    path = tmp_path / "kiln.toml"
    path.write_text('[project]\nname = "x"\nowner = "x"\n[image.one]\nroot_gb = "forty"\n')
    with pytest.raises(UsageError, match=r"kiln\.toml:5: image\.one\.root_gb"):
        config.load(path)
