"""kiln bake --on aws, the half of AWS: account and base AMI are looked at, then Packer makes the AMI."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from kiln import config as settings
from kiln.appstream import Appstream
from kiln.errors import UsageError
from kiln.manifest import Inputs
from launch import execute, names, pages, source_ami
from launch.cloud import Cloud
from launch.import_source import judge_role
from launch.plan import Plan, Say, requests
from launch.trouble import told

SENT = (
    "CreateKeyPair", "CreateSecurityGroup", "AuthorizeSecurityGroupIngress", "RunInstances", "CreateTags",
    "StopInstances", "CreateImage", "TerminateInstances", "DeleteKeyPair", "DeleteSecurityGroup",
)  # fmt: skip
"""What Packer sends that changes something; it takes away all but the AMI, also after a failure."""

WAY_IN = {
    "windows": "WinRM over https, port 5986: a certificate of its own, a random password by an RSA key",
    "linux": "ssh",
}

ENDS = {"windows": "ec2launch sysprep stops it", "linux": "Packer stops it"}


class Build(Protocol):
    """What is baked, as the other side knows it."""

    @property
    def system(self) -> source_ami.System:
        """What the image runs."""

    @property
    def roles(self) -> list[str]:
        """Of its playbook."""

    @property
    def variables(self) -> dict[str, object]:
        """Of its playbook."""

    def inputs(self, base: str) -> Inputs:
        """What the digest covers, with the id of the base AMI."""

    def version(self, digest: str) -> str:
        """A new version."""

    def command(self, wish: Mapping[str, str], folder: Path) -> list[str]:
        """Packer's command line."""

    def run(
        self, wish: Mapping[str, str], base: str, profile: str | None, say: Callable[[str], None]
    ) -> Path:
        """Have Packer make it."""


def plan(
    cloud: Cloud,
    config: settings.Config,
    image: str,
    build: Build,
    *,
    subnet: str,
    folder: Path,
    command: str,
    profile: str | None = None,
) -> Plan:
    """Plan a bake on AWS.

    Parameters
    ----------
    cloud, config:
        Account and region, and kiln.toml.
    image, build:
        What is baked.
    subnet:
        Of the instance, empty for the default VPC's.
    folder:
        Of the image's versions.
    command:
        The command line.
    profile:
        Of the AWS configuration, for Packer.

    Returns
    -------
    Plan
        One step, which Packer does as a whole; none where an AMI of these inputs is there.

    Raises
    ------
    KilnError
        Something could not be found out.
    """
    said = config.select(image)
    base = source_ami.find(cloud, build.system)
    inputs = build.inputs(base["ImageId"])
    digest = inputs.digest()
    version = build.version(digest)
    made = Plan(command, f"bake {image} on AWS in {cloud.region}: {version}")
    source_ami.judge(made, cloud, build.system, base)
    _judge_image(made, cloud, config, image, build)
    if subnet:
        _judge_subnet(made, cloud, subnet)
    wish = {
        "region": cloud.region,
        "subnet_id": subnet,
        "base_ami_name": base["Name"],
        "base_ami_owner": base["OwnerId"],
        "version": version,
        "run_id": cloud.run_id,
    }
    made.facts = {
        "version": version,
        "input_digest": digest,
        "base": {key: base.get(key) for key in ("ImageId", "Name", "OwnerId", "CreationDate")},
        "roles": build.roles,
        "inputs": inputs.model_dump(mode="json"),
        "packer": build.command(wish, folder / version),
    }
    if there := _same(cloud, config, image, digest):
        made.notes.append(f"unchanged: {there['ImageId']} ({there['Name']}) has these inputs")
        return made

    def run(say: Say) -> None:
        place = build.run(wish, base["ImageId"], profile, say)
        say(f"Packer's word for it is in {place}")

    made.add(
        "packer",
        f"run one instance of {base['ImageId']} ({base['Name']}), {said.root_gb} GiB gp3"
        f"{', unencrypted' if source_ami.BASES[build.system].plain else ''}; make AMI "
        f"{names.ami(config.project.name, image, version)} of it",
        requests("ec2", cloud.region, *SENT),
        run,
    )
    made.notes += [
        f"the way in is {WAY_IN[build.system]}",
        f"{said.playbook.name}: {', '.join(build.roles)}",
        *_installed(build.variables),
        *_catalogue(said.appstream),
        f"at the end {ENDS[build.system]}; instance, key pair and security group are taken away",
        "no disk is made and nothing is booted on this machine: what is in the AMI is not proven by this",
    ]
    return made


def _installed(variables: Mapping[str, object]) -> list[str]:
    """What is downloaded, with where from: the pins of kiln.toml as the role gets them."""
    urls = {name.removesuffix("_url"): value for name, value in variables.items() if name.endswith("_url")}
    digests = {name: str(variables.get(f"{name}_sha256", "")) for name in urls}
    return [
        f"{name} from {urls[name]}, sha256 {digests[name][:16]}…" for name in sorted(urls) if digests[name]
    ]


def _catalogue(said: Appstream | None) -> list[str]:
    if said is None:
        return []
    shown = [each.display_name or each.name for each in said.applications]
    return [f"catalogue: {', '.join(shown)}" if shown else "catalogue: 3D Slicer, the role's own"]


def _judge_image(made: Plan, cloud: Cloud, config: settings.Config, image: str, build: Build) -> None:
    """Refuse what would be baked for an hour and could not be imported then."""
    said = config.select(image)
    if build.system != "windows" or said.appstream is None:
        return
    if said.appstream.import_role is None:
        made.refuse(
            "import-role",
            f"{image} has no import_role: an AMI of it would be imported by nobody",
            f"add it under [image.{image}.appstream], or go by a builder: kiln builder run {image}",
        )
    else:
        judge_role(made, cloud, said.appstream.import_role)
    if said.publish is not None and said.publish.encrypt:
        made.refuse(
            "publish-encrypted",
            f"[image.{image}.publish] encrypts, and AppStream imports no encrypted AMI",
            "write encrypt = false there",
        )


def _judge_subnet(made: Plan, cloud: Cloud, subnet: str) -> None:
    with told(f"looking for {subnet}"):
        client = cloud.client("ec2")
        filters = [{"Name": "subnet-id", "Values": [subnet]}]
        found = list(pages.every(client, "describe_subnets", "Subnets", Filters=filters))
    if not found:
        made.refuse("subnet", f"{cloud.region} has no {subnet}", "name one that is there: --subnet")


def _same(cloud: Cloud, config: settings.Config, image: str, digest: str) -> dict[str, Any] | None:
    """Return our own AMI that Packer made of the same inputs, None where there is none."""
    filters = [
        {"Name": "name", "Values": [names.ami(config.project.name, image, f"*-{digest[:8]}")]},
        {"Name": "state", "Values": ["available"]},
    ]
    with told(f"looking for an AMI of these inputs in {cloud.region}"):
        found = list(
            pages.every(cloud.client("ec2"), "describe_images", "Images", Owners=["self"], Filters=filters)
        )
    return max(found, key=lambda each: str(each["CreationDate"]), default=None)


def run(
    image: str,
    build: Build,
    *,
    folder: Path,
    region: str | None = None,
    subnet: str = "",
    only_plan: bool = False,
    as_json: bool = False,
    profile: str | None = None,
    config: Path | None = None,
) -> int:
    """Show what a bake on AWS would do, and have Packer do it.

    Parameters
    ----------
    image, build:
        What is baked, as kiln.toml and the side of baking know it.
    folder:
        Of the image's versions on this machine.
    region:
        By default the first of the image's regions in kiln.toml.
    subnet:
        Of the instance.
    only_plan, as_json, profile, config:
        As on the command line.

    Returns
    -------
    int
        DONE, or REFUSED with a plan that is not to be carried out.

    Raises
    ------
    UsageError
        kiln.toml does not say what is baked, or where.
    KilnError
        AWS or Packer did not what it should.
    """
    loaded = settings.load(config)
    publish = loaded.select(image).publish
    place = region or (publish.regions[0] if publish else None)
    if place is None:
        raise UsageError(f"kiln.toml names no region of {image}", "name one: --region us-east-1")
    build.variables  # noqa: B018 - what kiln.toml lacks is told before anything is asked of AWS
    cloud = Cloud(place, names.run_id("bake"), profile)
    cloud.account  # noqa: B018 - who we are, too
    more = "".join(f" {option} {value}" for option, value in {"--subnet": subnet}.items() if value)
    command = f"kiln bake {image} --on aws --region {place}{more}"
    made = plan(cloud, loaded, image, build, subnet=subnet, folder=folder, command=command, profile=profile)
    return execute.carry_out(made, cloud, only_plan=only_plan, as_json=as_json)
