"""kiln bake --on aws: what the plan says of the Windows build, what it refuses, and how Packer is called."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiln import cli, config, paths
from kiln.errors import Exit
from launch import bake_ami, names, source_ami
from launch.cloud import Cloud
from launch.plan import Plan
from scripts import bake_aws
from tests.aws.account import available
from tests.aws.conftest import KILN_TOML, REGION, ROOT
from tests.emulator.handle import Emulator

BASE = "ami-0717200000000003"
ROLE = "arn:aws:iam::111122223333:role/import"
URL = "https://example.org"

SLICER = f"""
[image.slicer]
root_gb = 64
[image.slicer.slicer]
version = "5.10.0"
revision = "34045"
[image.slicer.slicer.windows]
slicer = {{ url = "{URL}/Slicer-5.10.0-win-amd64.exe", sha256 = "{"a" * 64}" }}
extension = {{ url = "{URL}/34045-win-amd64-MONAILabel-git1.zip", sha256 = "{"b" * 64}" }}
[image.slicer.appstream]
import_role = "{ROLE}"
"""


@pytest.fixture
def toml(tmp_path: Path, client: Callable[..., Any]) -> Path:
    """kiln.toml of an image of AppStream, and the role that it names."""
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "appstream.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    client("iam").create_role(
        RoleName="import",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )
    path = tmp_path / "kiln.toml"
    path.write_text(_toml(SLICER))
    return path


def _toml(slicer: str) -> str:
    places = (
        f'[image.slicer]\nplaybook = "{ROOT}/ansible/playbooks/slicer.yml"\ntemplate = "{ROOT}/packer/slicer"'
    )
    head, _, rest = KILN_TOML.partition("[image.slicer]")
    return (
        head
        + slicer.replace("[image.slicer]", places, 1)
        + "\n[image.slicer.publish]"
        + rest.partition("[image.slicer.publish]")[2]
    )


def plan(toml: Path, image: str = "slicer", **given: Any) -> Plan:
    build = bake_aws.Build(image, toml)
    return bake_ami.plan(
        Cloud(REGION, "test-bake"),
        config.load(toml),
        image,
        build,
        **{"subnet": "", "folder": paths.build_dir() / image, "command": "kiln bake", **given},
    )


def refused(made: Plan) -> set[str]:
    return {each.check for each in made.refusals}


def test_the_command_prints_the_plan_of_the_windows_build(
    toml: Path, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.run(["bake", "slicer", "--on", "aws", "--plan", "--config", str(toml)])
    said = capsys.readouterr().out
    assert code == Exit.DONE, said
    for words in (
        f"run one instance of {BASE} (TPM-Windows_Server-2022-English-Full-Base-2026.11.12)",
        "64 GiB gp3, unencrypted; make AMI kiln-slicer-",
        "WinRM over https",
        "slicer.yml: base, slicer, appstream, seal",
        f"slicer from {URL}/Slicer-5.10.0-win-amd64.exe, sha256 aaaa",
        f"slicer_extension from {URL}/34045-win-amd64-MONAILabel-git1.zip, sha256 bbbb",
        "ec2launch sysprep",
    ):
        assert words in said, words
    changing = [each for each in emulator.requests() if each["operation"] in bake_ami.SENT]
    assert changing == []


def test_the_plan_for_programs_has_packers_command(toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["bake", "slicer", "--on", "aws", "--plan", "--json", "--config", str(toml)]) == Exit.DONE
    said = json.loads(capsys.readouterr().out)
    assert said["base"]["ImageId"] == BASE
    assert said["version"].endswith(f"-{said['input_digest'][:8]}")
    assert f"base_ami_name={said['base']['Name']}" in said["packer"]
    assert f"version={said['version']}" in said["packer"]
    assert "-only=amazon-ebs.image" in said["packer"]
    variables = said["inputs"]["variables"]
    assert (variables["slicer_kind"], variables["appstream_way"]) == ("real", "import")
    (step,) = said["steps"]
    assert set(step["requests"]) == {f"ec2:{each}@{REGION}" for each in bake_ami.SENT}


def test_a_digest_is_of_the_base_too(toml: Path) -> None:
    build = bake_aws.Build("slicer", toml)
    assert build.inputs(BASE).digest() == build.inputs(BASE).digest()
    assert build.inputs(BASE).digest() != build.inputs("ami-0717200000000009").digest()


def test_what_was_baked_of_these_inputs_is_not_baked_again(toml: Path, client: Callable[..., Any]) -> None:
    first = plan(toml)
    assert len(first.steps) == 1
    ec2 = client("ec2")
    ami = ec2.copy_image(
        Name=names.ami("kiln", "slicer", first.facts["version"]), SourceImageId=BASE, SourceRegion=REGION
    )["ImageId"]
    available(ec2, ami)
    again = plan(toml)
    assert again.steps == [] and "has these inputs" in again.notes[0]


NO_IMPORT = """[[image.slicer.appstream.applications]]
name = "slicer"
path = 'C:\\Slicer.exe'
[image.slicer.appstream.builder]
base = "AppStream-WinServer2022"
subnet = "subnet-01234567"
security_groups = ["sg-01234567"]
secret = "ssm:/kiln/builder"
"""


@pytest.mark.parametrize(
    ("old", "new", "check"),
    [
        ("encrypt = false", "encrypt = true", "publish-encrypted"),
        (f'import_role = "{ROLE}"', NO_IMPORT, "import-role"),
        ("role/import", "role/other", "role"),
    ],
)
def test_what_could_not_be_imported_is_not_baked(toml: Path, old: str, new: str, check: str) -> None:
    text = toml.read_text()
    assert old in text
    toml.write_text(text.replace(old, new))
    assert refused(plan(toml)) == {check}


def test_an_account_that_encrypts_by_default_is_sent_to_a_builder(
    toml: Path, client: Callable[..., Any]
) -> None:
    client("ec2").enable_ebs_encryption_by_default()
    (refusal,) = plan(toml).refusals
    assert refusal.check == "encrypted-by-default"
    assert "kiln builder run" in refusal.hint


SOUND: dict[str, Any] = {
    "ImageId": "ami-1",
    "Name": "TPM-Windows_Server-2022",
    "State": "available",
    "ImageType": "machine",
    "Architecture": "x86_64",
    "VirtualizationType": "hvm",
    "BootMode": "uefi",
    "TpmSupport": "v2.0",
    "EnaSupport": True,
    "PlatformDetails": "Windows",
    "RootDeviceName": "/dev/sda1",
    "BlockDeviceMappings": [
        {"DeviceName": "/dev/sda1", "Ebs": {"VolumeType": "gp2", "VolumeSize": 30, "Encrypted": False}},
        {"DeviceName": "xvdca", "VirtualName": "ephemeral0"},
    ],
}


def _disk(**changed: Any) -> dict[str, Any]:
    root = SOUND["BlockDeviceMappings"][0]
    return {"BlockDeviceMappings": [{**root, "Ebs": {**root["Ebs"], **changed}}]}


@pytest.mark.parametrize(
    ("changed", "checks"),
    [
        ({}, set()),
        ({"BootMode": "legacy-bios"}, {"ami-boot-mode"}),
        ({"TpmSupport": None}, {"ami-tpm"}),
        ({"EnaSupport": False}, {"ami-ena"}),
        (_disk(Encrypted=True), {"ami-encrypted"}),
        (_disk(VolumeSize=500), set()),
        (_disk(VolumeSize=501), {"ami-volume-size"}),
        (_disk(VolumeType="io2"), {"ami-volume-type"}),
        ({"BlockDeviceMappings": SOUND["BlockDeviceMappings"][:1] * 2}, {"ami-volumes"}),
        ({"PlatformDetails": "Windows with SQL Server Standard"}, {"ami-platform"}),
        ({"RootDeviceName": "/dev/xvda"}, {"ami-root-device"}),
    ],
)
def test_a_base_that_leads_nowhere_is_refused(
    cloud: Cloud, changed: dict[str, Any], checks: set[str]
) -> None:
    made = Plan("kiln bake", "x")
    source_ami.judge(made, cloud, "windows", SOUND | changed)
    assert refused(made) == checks


def test_a_public_base_is_none_to_refuse_and_debians_suits(toml: Path, cloud: Cloud) -> None:
    made = plan(toml, "monai-label")
    assert refused(made) == set()
    assert made.facts["base"]["Name"] == "debian-12-amd64-20261116-2299"
    assert "base_bootloader" not in made.facts["inputs"]["variables"]


def test_names_and_owners_are_those_of_the_templates() -> None:
    for image, system in {"slicer": "windows", "monai-label": "linux"}.items():
        text = (ROOT / f"packer/{image}/variables.pkr.hcl").read_text()
        base = source_ami.BASES[system]  # type: ignore[index]
        assert f'default     = "{base.name}"' in text
        assert f'default     = "{base.owner}"' in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--plan"], "these options are for a bake on AWS"),
        (["--on", "aws", "--plan", "--subnet", "subnet-01234567"], ""),
        (["--on", "moon"], "moon"),
    ],
)
def test_options_that_cannot_be_meant(
    toml: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code = cli.run(["bake", "slicer", *arguments, "--config", str(toml)])
    told = capsys.readouterr()
    if said:
        assert code == Exit.WRONG_USE
        assert said in told.err
    else:
        assert code == Exit.REFUSED
        assert "has no subnet-01234567" in told.out


def test_without_a_pin_for_windows_nothing_is_asked_of_aws(
    toml: Path, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    toml.write_text(_toml("[image.slicer]\n"))
    before = len(emulator.requests())
    assert cli.run(["bake", "slicer", "--on", "aws", "--plan", "--config", str(toml)]) == Exit.WRONG_USE
    assert "pins no 3D Slicer for Windows" in capsys.readouterr().err
    assert len(emulator.requests()) == before


def test_packer_gets_what_the_plan_says(
    toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a recorder in packer's place: the real one meets the emulator in test_packer_windows."""
    program = tmp_path / "bin/packer"
    program.parent.mkdir()
    program.write_text(
        "#!/usr/bin/env python3\n"
        "import json, os, sys\n"
        "given = dict(word.split('=', 1) for word in sys.argv if '=' in word)\n"
        "with open(os.environ['RECORD'], 'w') as out:\n"
        "    said = json.load(open(given['extra_vars']))\n"
        "    json.dump([sys.argv, said, os.environ.get('AWS_PROFILE')], out)\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    monkeypatch.setenv("KILN_BUILD", str(tmp_path / "build"))
    assert cli.run(["bake", "slicer", "--on", "aws", "--config", str(toml)]) == Exit.DONE, capsys.readouterr()
    words, variables, profile = json.loads((tmp_path / "record").read_text())
    assert variables["slicer_url"] == f"{URL}/Slicer-5.10.0-win-amd64.exe"
    assert profile is None
    (version,) = [path.name for path in (tmp_path / "build/slicer").iterdir()]
    assert f"version={version}" in words
    assert words[-1] == str(ROOT / "packer/slicer")
    made = json.loads((tmp_path / "build/slicer" / version / bake_aws.INPUTS).read_text())
    assert made["destination"] == "aws"
