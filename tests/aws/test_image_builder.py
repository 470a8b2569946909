"""An image by an image builder: whole, killed after each step, failing; no builder is left that is billed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiln import config as configuration
from kiln import paths
from kiln.config import Config
from kiln.errors import Exit, KilnError
from launch import builder_plan, image_builder, names, seed_plan
from launch.cloud import Cloud
from launch.execute import carry_out
from launch.plan import Plan
from tests.aws import streaming
from tests.aws.builder_local import Local
from tests.aws.streaming import PLAYBOOK, Ground, sent
from tests.emulator.handle import Emulator

Clients = Callable[..., Any]


@pytest.fixture
def ground(client: Clients, emulator: Emulator) -> Ground:
    # Each look at AppStream lets five minutes go by: a test need not look as often as a run does.
    emulator.settings(describe_seconds=300)
    return streaming.ground(client)


@pytest.fixture
def config(kiln_toml: Path, ground: Ground, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Config:
    monkeypatch.setenv("KILN_TEST_SECRET", "a key")
    monkeypatch.setenv("KILN_CACHE", str(tmp_path / "cache"))
    return streaming.write_built(kiln_toml, ground)


@pytest.fixture
def host(tmp_path: Path, emulator: Emulator) -> Local:
    (tmp_path / "builder").mkdir()
    return Local(tmp_path / "builder", emulator.endpoint)


def planned(cloud: Cloud, config: Config, host: Local, *, keep: bool = False) -> Plan:
    return builder_plan.plan(cloud, config, "slicer", keep=keep, reach=host.reach)


def builders(client: Clients) -> list[str]:
    return [each["Name"] for each in client("appstream").describe_image_builders()["ImageBuilders"]]


def images(client: Clients) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client("appstream").describe_images(Type="PRIVATE")["Images"]
    return found


def alone(cloud: Cloud, made: Plan, stage: str) -> None:
    """Carry out one step of a plan, as a run that is killed after it."""
    (step,) = [step for step in made.steps if step.stage == stage]
    with cloud.permit(step.requests):
        step.run(lambda _: None)


def refusals(made: Plan) -> dict[str, str]:
    for each in made.refusals:
        assert "\n" not in each.what + each.hint
    return {each.check: f"{each.what} | {each.hint}" for each in made.refusals}


def test_a_run_makes_the_image_and_leaves_no_builder(
    cloud: Cloud, config: Config, client: Clients, emulator: Emulator, host: Local, capsys: Any
) -> None:
    before = len(emulator.requests())
    assert image_builder.run("slicer", only_plan=True, as_json=True) == Exit.DONE
    assert not emulator.mutating(before), "a plan changes nothing"
    made = planned(cloud, config, host)
    assert [step.stage for step in made.steps] == ["builder", "provision", "catalogue", "image", "clean up"]
    announced = {request.operation for step in made.steps for request in step.requests}
    assert carry_out(made, cloud) is Exit.DONE
    done = sent(emulator, before)
    assert done == ["CreateImageBuilder", "TagResource", "DeleteImageBuilder"] and set(done) <= announced
    (image,) = images(client)
    assert image["State"] == "AVAILABLE" and image["Name"] == made.facts["appstream_image"]
    assert [each["Name"] for each in image["Applications"]] == ["slicer"]
    tags = client("appstream").list_tags_for_resource(ResourceArn=image["Arn"])["Tags"]
    assert (
        tags[names.VERSION] == made.facts["version"]
        and tags[names.INPUT_DIGEST] == made.facts["input_digest"]
    )
    assert (host.folder / "trace").read_text() == made.facts["version"], "the real playbook ran"
    assert host.asked() == ["list-applications", "add-application", "create-image --dry-run", "create-image"]
    assert builders(client) == []
    again = planned(cloud, config, host)
    assert not again.steps and not again.refusals
    assert all(each["valid"] for each in emulator.requests(before))


def test_lost_answers_make_nothing_twice_and_copies_go_to_the_other_regions(
    cloud: Cloud,
    kiln_toml: Path,
    config: Config,
    client: Clients,
    emulator: Emulator,
    ground: Ground,
    host: Local,
) -> None:
    streaming.write_built(kiln_toml, ground)
    text = kiln_toml.read_text()
    before, _, after = text.partition("[image.slicer.publish]")
    after = after.replace('["us-east-1"]', '["us-east-1", "eu-west-1"]', 1)
    kiln_toml.write_text(f"{before}[image.slicer.publish]{after}")
    config = configuration.load(kiln_toml)
    made = planned(cloud, config, host)
    assert made.steps[-1].lane == "eu-west-1"
    asked = sorted({each.operation for step in made.steps for each in step.requests})
    emulator.faults([{"service": "appstream", "operation": each, "fault": "lost"} for each in asked])
    assert carry_out(made, cloud) is Exit.DONE
    met = {rule["operation"] for rule in emulator.rules() if rule["met"]}
    assert met >= {"CreateImageBuilder", "DeleteImageBuilder", "CopyImage", "TagResource"}
    (there,) = client("appstream", "eu-west-1").describe_images(Type="PRIVATE")["Images"]
    assert there["State"] == "AVAILABLE" and there["Name"] == made.facts["appstream_image"]
    tags = client("appstream", "eu-west-1").list_tags_for_resource(ResourceArn=there["Arn"])["Tags"]
    assert tags[names.VERSION] == made.facts["version"]
    assert len(images(client)) == 1 and builders(client) == []
    again = planned(cloud, config, host)
    assert not again.steps and not again.refusals


def test_a_run_that_is_killed_after_any_step_goes_on_where_it_was(
    cloud: Cloud, config: Config, client: Clients, emulator: Emulator, host: Local
) -> None:
    before = len(emulator.requests())
    first = planned(cloud, config, host)
    alone(cloud, first, "builder")
    second = planned(cloud, config, host)
    assert "have image builder" in second.steps[0].does
    assert second.facts["version"] == first.facts["version"], "the version is the first run's"
    alone(cloud, second, "provision")
    third = planned(cloud, config, host)
    assert [step.stage for step in third.steps] == ["builder", "catalogue", "image", "clean up"]
    # The answer goes with the connection: what the builder does is looked up.
    host.tell(fails={"create-image": ["kill", ""]})
    alone(cloud, third, "catalogue")
    last = planned(cloud, config, host)
    assert [each.stage for each in last.steps] == ["image", "clean up"]
    assert carry_out(last, cloud) is Exit.DONE
    assert sent(emulator, before).count("CreateImageBuilder") == 1
    assert host.asked()[-2:] == ["create-image --dry-run", "create-image"]
    assert len(images(client)) == 1 and builders(client) == []


def test_no_builder_is_left_after_a_failure_unless_it_is_to_be_kept(
    cloud: Cloud, kiln_toml: Path, config: Config, client: Clients, ground: Ground, host: Local
) -> None:
    broken = streaming.write_built(
        kiln_toml, ground, playbook=PLAYBOOK.replace("{{ kiln_version }}", "{{ nobody }}")
    )
    with pytest.raises(KilnError) as failed:
        carry_out(planned(cloud, broken, host), cloud)
    assert "slicer.yml failed on the builder" in failed.value.what and "nobody" in failed.value.what
    assert "\n" not in failed.value.what and str(paths.cache_dir()) in failed.value.hint
    assert builders(client) == [] and images(client) == []

    config = streaming.write_built(kiln_toml, ground)
    host.tell(fails={"add-application": [1, "File not found (absolute-app-path)"]})
    with pytest.raises(KilnError, match="File not found"):
        carry_out(planned(cloud, config, host, keep=True), cloud)
    assert builders(client) == ["kiln-slicer-builder"]

    # Ctrl-C, with the builder of the kept run, and without --keep.
    host.tell(fails={})
    host.interrupted = "list-applications"
    with pytest.raises(KeyboardInterrupt):
        carry_out(planned(cloud, config, host), cloud)
    assert builders(client) == []


def test_a_builder_that_cannot_start_is_explained_and_removed(
    cloud: Cloud, kiln_toml: Path, config: Config, client: Clients, ground: Ground, host: Local
) -> None:
    wrong = streaming.write_built(kiln_toml, ground)
    said = wrong.image["slicer"].appstream
    assert said is not None and said.builder is not None
    builder = said.builder.model_copy(update={"security_groups": ["sg-0123456789abcdef0"]})
    said = said.model_copy(update={"builder": builder})
    image = wrong.image["slicer"].model_copy(update={"appstream": said})
    wrong = wrong.model_copy(update={"image": {**wrong.image, "slicer": image}})
    with pytest.raises(KilnError) as failed:
        carry_out(planned(cloud, wrong, host), cloud)
    assert "SECURITY_GROUPS_NOT_FOUND" in failed.value.what and "kiln.toml" in failed.value.hint
    assert builders(client) == []


def test_what_stands_in_the_way_is_told_before_anything_is_made(
    cloud: Cloud,
    kiln_toml: Path,
    config: Config,
    client: Clients,
    emulator: Emulator,
    ground: Ground,
    host: Local,
) -> None:
    before = len(emulator.requests())
    bare = streaming.write_built(kiln_toml, ground, builder="")
    assert "kiln builder seed slicer" in refusals(planned(cloud, bare, host))["base"]
    graphics = streaming.write_built(
        kiln_toml, ground, builder='prepared = true\ninstance_type = "stream.graphics.g4dn.xlarge"\n'
    )
    assert "Service Quotas" in refusals(planned(cloud, graphics, host))["quota"]
    role = streaming.write_built(
        kiln_toml, ground, builder='prepared = true\nrole = "arn:aws:iam::111122223333:role/x"\n'
    )
    assert "no role x" in refusals(planned(cloud, role, host))["role"]
    assert not emulator.mutating(before)
    client("appstream").create_image_builder(
        Name="kiln-slicer-builder", ImageName=streaming.NATIVE, InstanceType="stream.standard.medium"
    )
    assert "ours" in refusals(planned(cloud, config, host))["builder-name"]
    (kiln_toml.parent / "slicer.yml").unlink()
    with pytest.raises(KilnError, match=r"there is no file .*slicer\.yml"):
        image_builder.run("slicer", config=kiln_toml)


def test_the_base_image_is_seeded_once_and_its_account_leaves_the_image(
    cloud: Cloud,
    kiln_toml: Path,
    config: Config,
    client: Clients,
    ground: Ground,
    host: Local,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    client("ssm").put_parameter(Name="/kiln/builder", Value=key.read_text(), Type="SecureString")
    streaming.write_built(kiln_toml, ground, builder="")
    text = kiln_toml.read_text().replace("env:KILN_TEST_SECRET", "ssm:/kiln/builder")
    kiln_toml.write_text(text)
    bare = configuration.load(kiln_toml)
    host.builder, host.closed = "kiln-slicer-seed", 3
    made = seed_plan.plan(cloud, bare, "slicer", reach=host.reach)
    assert [step.stage for step in made.steps] == ["builder", "by hand", "image", "clean up"]
    assert carry_out(made, cloud) is Exit.DONE
    base = made.facts["base"]
    assert [each["Name"] for each in images(client)] == [base] and builders(client) == []
    told = capsys.readouterr().err
    assert "https://appstream2." in told and "sudo bash PATH" in told
    script = (paths.cache_dir() / "builder" / f"{base}.sh").read_text()
    assert (
        key.with_suffix(".pub").read_text().split()[1] in script and "@" not in script.split("user=")[1][:20]
    )
    assert not seed_plan.plan(cloud, bare, "slicer", reach=host.reach).steps, "once"

    host.builder = "kiln-slicer-builder"
    run = planned(cloud, bare, host)
    assert base in run.steps[0].does
    assert carry_out(run, cloud) is Exit.DONE
    assert (host.folder / "left").exists(), "Ansible's account is told to leave"
    assert len(images(client)) == 2 and builders(client) == []
