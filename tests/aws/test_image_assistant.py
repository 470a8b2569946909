"""The Image Assistant's answers, the way into a builder, secrets and the scripts of the seed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tree_sitter
import tree_sitter_powershell

from kiln.appstream import Application, Builder
from kiln.errors import KilnError
from launch import assistant, builder_host, builder_seed, secret
from launch.assistant import UnreachedError
from launch.builder_host import ByAnsible
from launch.cloud import Cloud
from tests.aws.builder_local import Local
from tests.aws.conftest import REGION

BUILDER = Builder(
    base="AppStream-WinServer2022",
    subnet="subnet-0123456789abcdef0",
    security_groups=["sg-0123456789abcdef0"],
    secret="env:KILN_TEST_SECRET",
)


def quiet(_: str) -> None:
    """Nobody listens."""


@pytest.fixture
def host(tmp_path: Path) -> Local:
    return Local(tmp_path, "http://127.0.0.1:9", connect="winrm")


def test_the_catalogue_becomes_what_kiln_toml_says(host: Local, tmp_path: Path) -> None:
    program = tmp_path / "Slicer.exe"
    program.touch()
    host.tell(applications=[{"Name": "old"}, {"Name": "slicer"}])
    said = [
        Application(
            name="slicer",
            path=str(program),
            launch_parameters='--python-code "1 + 1" C:\\data\\',
            display_name="3D Slicer",
        )
    ]
    for _ in range(2):
        assistant.catalogue(host, said, quiet)
        there = assistant.ask(host, "list-applications")["applications"]
        assert there == [
            {
                "Name": "slicer",
                "AbsoluteAppPath": str(program),
                "DisplayName": "3D Slicer",
                "LaunchParameters": '--python-code "1 + 1" C:\\data\\',
            }
        ]
    assistant.default_profile(host)
    assert host.asked()[-1] == "update-default-profile"
    host.connect = "ssh"
    assistant.default_profile(host)
    assert host.asked().count("update-default-profile") == 1, "Windows only"


@pytest.mark.parametrize(
    ("fails", "words"),
    [
        (
            [1, "Administrator privileges are required to perform this operation"],
            ("refuses", "kiln builder seed"),
        ),
        ([1, "Unable to add more than 50 apps to the catalog."], ("refuses", "50 applications")),
        ([1, "Something new"], ("Something new", "correct what it names")),
        ([255, "An unexpected error"], ("failed at list-applications", "AWS Support")),
        (["garbage", "Access is denied."], ("an answer that is none", "Access is denied.")),
        (["garbage", '{"status": 1, "message": "no"}'], ("an answer that is none", "agent")),
    ],
)
def test_every_answer_but_success_is_told_in_two_lines(
    fails: list[Any], words: tuple[str, ...], host: Local
) -> None:
    host.tell(fails={"list-applications": fails})
    with pytest.raises(KilnError) as failed:
        assistant.ask(host, "list-applications")
    assert all(word in str(failed.value) for word in words), str(failed.value)
    assert str(failed.value).count("\n") == 1


def test_no_answer_is_not_a_failure_of_the_operation(host: Local) -> None:
    host.closed = 1
    with pytest.raises(UnreachedError):
        assistant.ask(host, "list-applications")


def test_ansible_is_the_way_in(tmp_path: Path) -> None:
    local = ByAnsible("ssh", {"ansible_connection": "local", "ansible_python_interpreter": sys.executable})
    done = local.run(["sh", "-c", 'echo "$1"; echo two >&2; exit 3', "sh", "$HOME a  b"], 1800)
    assert (done.code, done.out, done.err) == (3, "$HOME a  b", "two"), "nothing is expanded on the way"
    gone = ByAnsible("ssh", {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_connection": "ssh"})
    assert gone.run(["true"], 1800).code is None


def test_no_secret_is_in_an_inventory(tmp_path: Path) -> None:
    windows = builder_host.reach(BUILDER, "10.7.0.10", "s3cret", tmp_path)
    with builder_host.inventory(windows) as file:
        text = file.read_text()
    assert "s3cret" not in text and "10.7.0.10" in text and "5986" in text and "https" in text
    assert windows.environment() == {builder_host.PASSWORD: "s3cret"} and "s3cret" not in repr(windows)
    linux = builder_host.reach(BUILDER.model_copy(update={"connect": "ssh"}), "10.7.0.10", "s3cret", tmp_path)
    with builder_host.inventory(linux) as file:
        assert "s3cret" not in file.read_text()
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert linux.assistant[-1] == "/bin/AppStreamImageAssistant"
    assert windows.assistant[0].endswith("image-assistant.exe")


def test_a_secret_is_read_where_kiln_toml_says(
    cloud: Cloud, client: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILN_TEST_SECRET", "one")
    assert secret.read(cloud, REGION, "env:KILN_TEST_SECRET") == "one"
    client("ssm").put_parameter(Name="/kiln/builder", Value="two", Type="SecureString")
    assert secret.read(cloud, REGION, "ssm:/kiln/builder") == "two"
    client("secretsmanager").create_secret(Name="kiln/builder", SecretString="three")
    assert secret.read(cloud, REGION, "secretsmanager:kiln/builder") == "three"
    monkeypatch.delenv("KILN_TEST_SECRET")
    for wrong in ("env:KILN_TEST_SECRET", "ssm:/kiln/nothing", "secretsmanager:kiln/nothing"):
        with pytest.raises(KilnError, match=wrong):
            secret.read(cloud, REGION, wrong)


def test_the_scripts_of_the_seed_have_no_gaps_left_and_can_be_read(tmp_path: Path) -> None:
    key = "ssh-ed25519 AAAA kiln"
    linux = builder_seed.script(BUILDER.model_copy(update={"connect": "ssh", "port": 2222}), key)
    assert "@USER@" not in linux and "@KEY@" not in linux and key in linux and "port='2222'" in linux
    file = tmp_path / "linux.sh"
    file.write_text(linux)
    subprocess.run(["bash", "-n", str(file)], check=True)
    windows = builder_seed.script(BUILDER, "")
    assert "@USER@" not in windows and "@PORT@" not in windows and "-Port 5986" in windows
    assert "Read-Host" in windows and "AsSecureString" in windows, "the password stands in no file"


def test_the_script_for_windows_is_powershell() -> None:
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
    whole = builder_seed.script(BUILDER, "")
    parts = [whole, *(part.split("\n'@")[0] for part in whole.split("@'\n")[1:])]
    assert len(parts) == 3, "the script, and the two that it writes"
    for part in parts:
        assert not parser.parse(part.encode()).root_node.has_error, part[:80]


def test_a_key_that_is_none_is_told() -> None:
    with pytest.raises(KilnError, match="no private key"):
        builder_seed.public_key("not a key")
