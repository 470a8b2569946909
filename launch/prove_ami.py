"""kiln prove --ami, the half of AWS: brings a host up, has it proven by the other half, takes it down."""

from __future__ import annotations

import platform
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from kiln import config as settings
from kiln import paths
from kiln.config import Config
from kiln.errors import KilnError, RefusedError, UsageError
from kiln.remote import Remote
from launch import execute, names
from launch.cloud import Cloud
from launch.instance import DOWN, HINTS, Stand, Wish
from launch.plan import Plan, Say
from launch.trouble import told


def _run_id(ami: str) -> str:
    """The same in this checkout of this machine for the same AMI: so a run finds what a killed one left."""
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except OSError:
        machine = platform.node()
    return f"kiln-prove-{names.token(machine, str(paths.ROOT), ami)[:12]}"


def plan(stand: Stand, command: str, body: Callable[[Remote], None]) -> Plan:
    """Plan the whole of it: start, proof, end.

    Parameters
    ----------
    stand:
        The instance.
    command:
        The command line.
    body:
        What is done on the instance.

    Returns
    -------
    Plan
        A step for each thing that is made, the last takes all of it down.
    """
    wish, name, may = stand.wish, stand.name, stand.may
    made = Plan(command, f"prove {wish.ami} on {wish.instance_type} in {stand.cloud.region}")
    if left := stand.leftovers():
        made.add("clear", f"end what an earlier run left: {', '.join(left)}", may(*DOWN), stand.down)
    source = "nobody, since ssh goes through Session Manager" if wish.session else stand.source()
    group = may("CreateSecurityGroup", "AuthorizeSecurityGroupIngress")
    made.add("start", f"make security group {name}, open to {source}", group, stand.make_group)
    made.add("start", f"import key pair {name}", may("ImportKeyPair"), stand.import_key)
    made.add("start", f"run one {wish.instance_type} of {wish.ami}", may("RunInstances"), stand.start)

    def prove(_say: Say) -> None:
        assert stand.remote is not None, "the step before has made it"
        body(stand.remote)

    made.add("prove", "run the checks on it over ssh", (), prove)
    made.add("end", f"terminate it, delete key and group {name}", may(*DOWN), stand.down)
    made.notes.append("it is terminated whatever comes of the checks")
    return made


def run(
    image: str,
    version: str | None,
    wish: Wish,
    *,
    body: Callable[[Remote, str | None], None],
    user: str,
    user_data: Callable[[str], str],
    look: Callable[[str | None], None] = lambda _: None,
    region: str | None = None,
    only_plan: bool = False,
    as_json: bool = False,
    profile: str | None = None,
    config: Path | None = None,
) -> int:
    """Start an instance of an AMI, have it proven, and leave nothing of it.

    Parameters
    ----------
    image, version:
        What the AMI is said to be; its tags must not say something else. Without a version, the tag's.
    wish:
        Which instance; without a type, the first of kiln.toml.
    body:
        Proves it; called with the host and the version.
    user, user_data:
        Who logs in, and public key → what makes that user at the first boot.
    look:
        Called with the version before anything is started; raises where it cannot be proven here.
    region:
        By default the first of the image's regions in kiln.toml.
    only_plan, as_json, profile, config:
        As on the command line.

    Returns
    -------
    int
        DONE, or REFUSED with a plan that is not to be carried out.

    Raises
    ------
    RefusedError
        A check refused.
    KilnError
        AWS or ssh did not what it should; nothing is left running.
    """
    loaded = settings.load(config)
    place = region or _region(loaded, image)
    cloud = Cloud(place, _run_id(wish.ami), profile)
    cloud.account  # noqa: B018 - who we are is told before anything else
    tags = _tags(cloud, wish.ami)
    version = _agreed(image, version, wish.ami, tags)
    kind = wish.instance_type or next(iter(loaded.select(image).instance_types), "")
    if not kind:
        raise UsageError(
            f"kiln.toml names no instance type of {image}", "name one: --instance-type g5.xlarge"
        )
    wish = replace(wish, instance_type=kind)
    if wish.session and not wish.profile:
        raise UsageError(
            "Session Manager reaches only an instance with a role",
            "name one that has AmazonSSMManagedInstanceCore: --instance-profile NAME",
        )
    if not only_plan:
        look(version)
    if wish.address and not re.fullmatch(r"\S+:\d{1,5}", wish.address):
        raise UsageError(f"--address {wish.address} is no address", "write it like 127.0.0.1:2222")
    given = f"@{version}" if version else ""
    command = f"kiln prove {image}{given} --ami {wish.ami} --region {place}"
    with tempfile.TemporaryDirectory(prefix="kiln-") as folder:
        stand = Stand(
            cloud,
            wish,
            Path(folder),
            user,
            user_data,
            {names.PROJECT: loaded.project.name, names.IMAGE: image},
        )
        with told(f"looking at {place}"):
            made = plan(stand, command, lambda remote: body(remote, version))
        try:
            return execute.carry_out(made, cloud, only_plan=only_plan, as_json=as_json)
        finally:
            if not only_plan:
                _leave_nothing(stand)


def _leave_nothing(stand: Stand) -> None:
    """Take down what a failure or Ctrl-C left; after a good end there is nothing."""
    console = Console(stderr=True, highlight=False)
    try:
        with stand.cloud.permit(stand.may(*DOWN)), told(f"ending {stand.name}"):
            stand.down(lambda text: console.print(text, markup=False, soft_wrap=True))
    except KilnError as error:
        console.print(
            f"STILL THERE, and billed: {stand.name} in {stand.cloud.region}: {error.what}\n"
            "  fix: run the same command again, or kiln sweep --hours 1",
            markup=False,
            soft_wrap=True,
        )


def _region(loaded: Config, image: str) -> str:
    publish = loaded.select(image).publish
    if publish is None:
        raise UsageError(f"kiln.toml names no region of {image}", "name the AMI's: --region us-east-1")
    return publish.regions[0]


def _tags(cloud: Cloud, ami: str) -> dict[str, str]:
    with told(f"reading {ami}", HINTS):
        found = cloud.client("ec2").describe_images(ImageIds=[ami])["Images"]
    if not found:
        raise KilnError(f"there is no AMI {ami} in {cloud.region}", HINTS["InvalidAMIID.NotFound"])
    if found[0]["State"] != "available":
        raise KilnError(f"{ami} is {found[0]['State']}", "wait until it is available, or enable it")
    return names.read(found[0].get("Tags"))


def _agreed(image: str, version: str | None, ami: str, tags: dict[str, str]) -> str | None:
    """Return the version that is proven; what the AMI says of itself must fit."""
    said_image, said = tags.get(names.IMAGE, image), tags.get(names.VERSION, version)
    if said_image != image or (version and said != version):
        raise RefusedError(
            f"{ami} is tagged {said_image}@{said}, not {image}{f'@{version}' if version else ''}",
            f"prove what it is: kiln prove {said_image}@{said} --ami {ami}",
        )
    return said
