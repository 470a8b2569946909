"""The committed Windows template by real Packer: amazon-ebs on the emulator, WinRM to one that answers.

Ansible is a recorder here: what the playbook does on Windows is rehearsed in tests/windows. It ends as the
playbook does: the instance shuts itself down.
"""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiln import manifest, paths
from kiln.version_files import PACKER, VersionFiles
from launch import names, source_ami
from scripts import bake_aws
from tests.emulator.handle import Emulator
from tests.emulator.passwords import PASSWORD
from tests.emulator.winrm import WinRM
from tests.unit import contract

BASE = "ami-0717200000000003"
VERSION = contract.VERSION

RECORDER = f"""#!{sys.executable}
import json, os, sys
import boto3
inventory = next(word.split('=', 1)[-1] for word in sys.argv if 'packer-provisioner-ansible' in word)
given = [word for word in sys.argv if word.startswith('@')]
record = {{
    "arguments": sys.argv[1:],
    "password": os.environ.get("KILN_PACKER_PASSWORD"),
    "inventory": open(inventory).read(),
    "config": os.environ.get("ANSIBLE_CONFIG"),
}}
with open(os.environ["KILN_RECORD"], "w") as out:
    json.dump(record, out)
ec2 = boto3.client("ec2", endpoint_url=os.environ["KILN_ENDPOINT"])
running = [{{"Name": "instance-state-name", "Values": ["running"]}}]
for held in ec2.describe_instances(Filters=running)["Reservations"]:
    ec2.stop_instances(InstanceIds=[each["InstanceId"] for each in held["Instances"]])
"""


def packer(emulator: Emulator, listener: WinRM, folder: Path, made: Path) -> subprocess.CompletedProcess[str]:
    recorder = folder / "ansible-playbook"
    recorder.write_text(RECORDER)
    recorder.chmod(recorder.stat().st_mode | stat.S_IXUSR)
    (folder / "extra-vars.json").write_text(json.dumps(bake_aws.CONNECTION["windows"]))
    base = source_ami.BASES["windows"]
    variables = {
        "ec2_endpoint": emulator.endpoint,
        "winrm_host": "127.0.0.1",
        "winrm_port": str(listener.port),
        "version": VERSION,
        "run_id": "packer-test",
        "region": "us-east-1",
        "base_ami_name": base.name,
        "base_ami_owner": base.owner,
        "root_gb": "64",
        "poll_seconds": "1",
        "ansible_command": str(recorder),
        "ansible_env": json.dumps([f"KILN_RECORD={folder / 'record'}", f"KILN_ENDPOINT={emulator.endpoint}"]),
        "extra_vars": str(folder / "extra-vars.json"),
        "manifest": str(made),
    }
    options = [word for name, value in variables.items() for word in ("-var", f"{name}={value}")]
    return subprocess.run(
        ["packer", "build", "-color=false", "-only=amazon-ebs.image", *options, "packer/slicer"],
        cwd=paths.ROOT,
        env={
            **os.environ,
            "CHECKPOINT_DISABLE": "1",
            "PACKER_CACHE_DIR": str(folder / "cache"),
            "PACKER_CONFIG_DIR": str(folder / "config"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )


def test_the_template_makes_an_ami_that_appstream_would_import(
    client: Callable[..., Any], emulator: Emulator, tmp_path: Path
) -> None:
    folder = contract.put(tmp_path, "slicer")
    with WinRM(tmp_path) as listener:
        done = packer(emulator, listener, tmp_path, folder / PACKER)
    assert done.returncode == 0, done.stdout[-4000:]
    ec2 = client("ec2")
    asked = emulator.requests()

    # The instance: the listener's script, the disk, no way for it to be ended by its own shutdown.
    (run,) = [each for each in asked if each["operation"] == "RunInstances"]
    (instance,) = [each for held in ec2.describe_instances()["Reservations"] for each in held["Instances"]]
    assert instance["State"]["Name"] in ("terminated", "shutting-down")
    assert instance["ImageId"] == BASE
    assert run["valid"]
    user_data = ec2.describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute="userData")[
        "UserData"
    ]["Value"]
    script = base64.b64decode(user_data).decode()
    assert script == (paths.ROOT / "packer/slicer/winrm.ps1").read_text()

    # The way in: a key that is RSA, and the password that only its holder can read.
    record = json.loads((tmp_path / "record").read_text())
    assert record["password"] == PASSWORD
    assert not [word for word in record["arguments"] if PASSWORD in word]
    assert PASSWORD not in record["inventory"] and PASSWORD not in done.stdout
    assert "ansible_connection=psrp" in record["inventory"]
    assert f"ansible_host=127.0.0.1 ansible_port={listener.port} " in record["inventory"]
    assert "ansible_user=Administrator" in record["inventory"]
    assert "kiln_root" not in record["inventory"]
    assert len(listener.actions) > 3
    # Ansible's own word on where the password comes from, of the arguments as they were given.
    named = [word for word in record["arguments"] if "ansible_password" in word or word.startswith("@")]
    assert named == ["ansible_password=", f"@{tmp_path / 'extra-vars.json'}"]

    # What publish reads, and what the import asks for.
    written = manifest.Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    amis = VersionFiles(folder, written).packer_amis()
    (image,) = ec2.describe_images(ImageIds=[amis["us-east-1"]])["Images"]
    assert image["Name"] == names.ami("kiln", "slicer", VERSION)
    tags = names.read(image["Tags"])
    assert (tags[names.VERSION], tags[names.IMAGE], tags["kiln:base"]) == (VERSION, "slicer", BASE)
    assert (image["BootMode"], image["TpmSupport"], image["EnaSupport"]) == ("uefi", "v2.0", True)
    (disk,) = [each["Ebs"] for each in image["BlockDeviceMappings"] if "Ebs" in each]
    assert (disk["VolumeSize"], disk["VolumeType"], disk["Encrypted"]) == (64, "gp3", False)

    # Packer stopped nothing: the playbook's sysprep did. And nothing is left.
    stops = [each for each in asked if each["operation"] == "StopInstances"]
    assert len(stops) == 1
    assert ec2.describe_key_pairs()["KeyPairs"] == []
    groups = [each["GroupName"] for each in ec2.describe_security_groups()["SecurityGroups"]]
    assert not [name for name in groups if name.startswith("packer")]
    assert [each for each in asked if each["service"] == "ec2" and not each["valid"]] == []


def test_a_password_is_for_the_holder_of_an_rsa_key(client: Callable[..., Any]) -> None:
    ec2 = client("ec2")
    for kind in ("rsa", "ed25519"):
        ec2.create_key_pair(KeyName=kind, KeyType=kind)
    started = {
        kind: ec2.run_instances(
            ImageId=BASE, InstanceType="m6i.xlarge", MinCount=1, MaxCount=1, KeyName=kind
        )["Instances"][0]["InstanceId"]
        for kind in ("rsa", "ed25519")
    }
    # Windows has made none yet.
    for each in started.values():
        assert ec2.get_password_data(InstanceId=each)["PasswordData"] == ""
    assert len(base64.b64decode(ec2.get_password_data(InstanceId=started["rsa"])["PasswordData"])) == 256
    with pytest.raises(ec2.exceptions.ClientError, match="ED25519"):
        ec2.get_password_data(InstanceId=started["ed25519"])
