"""Goes through kiln.toml for what costs money, and asks AWS how large groups and fleets are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from kiln import manifest, paths
from kiln.config import Config, FleetTarget, GroupTarget, Image
from kiln.errors import KilnError
from launch.cloud import Cloud
from launch.cost_lines import HOURS, Cost, Line, Per, group_cost
from launch.prices import Book, Item
from launch.trouble import code, told

BUILDER_TYPE = "m6i.xlarge"
BUILDER_MIBPS = 125
"""The builder instance of packer/monai-label: its type, and its throughput above the free 125 MiB/s."""

BAKE_HOURS = Decimal(1)
PROOF_HOURS = Decimal("0.5")
IMAGE_BUILDER_HOURS = Decimal(3)
"""Assumed, and said so: no bake has run on AWS yet. A local bake tells its own length."""

UNCOUNTED = (
    "not counted: data transfer, requests, capacity units of balancers, keys, volume initialization,"
    " and what a stack holds beside (file system, NAT gateway, endpoints)"
)


class _Reckoning:
    """Goes through kiln.toml; asks AWS how large groups and fleets are, where it may."""

    def __init__(self, loaded: Config, book: Book, cloud: Cloud | None) -> None:
        self.config = loaded
        self.book = book
        self.cloud = cloud
        self.cost = Cost()
        self._balancers: set[str] = set()

    def all(self) -> Cost:
        for name, image in self.config.image.items():
            self._image(name, image)
        for name, target in self.config.target.items():
            if isinstance(target, GroupTarget):
                self._group(name, target)
            else:
                self._fleet(name, target)
        self.cost.notes.append(UNCOUNTED)
        return self.cost

    def _add(self, of: str, what: str, per: Per, quantity: Decimal, item: Item) -> None:
        self.cost.lines.append(Line(of, what, per, quantity, self.book.find(item)))

    def _image(self, name: str, image: Image) -> None:
        of, publish, baked = f"image {name}", image.publish, _baked(name)
        if publish is not None:
            stored = Decimal(image.root_gb) if baked is None else Decimal(baked.root.bytes) / 2**30
            if baked is None:
                self.cost.notes.append(
                    f"{of}: no version here says what a snapshot holds: at most {image.root_gb} GiB"
                )
            for region in publish.regions:
                what = f"{publish.keep} × snapshot of {stored:.1f} GiB in {region}"
                self._add(of, what, "month", publish.keep * stored, Item("snapshot", region, "standard"))
        if image.appstream is not None:
            self._built(of, name, image)
        elif publish is not None:
            self._bake(of, image, publish.regions[0], baked)

    def _bake(self, of: str, image: Image, region: str, baked: manifest.Manifest | None) -> None:
        hours = BAKE_HOURS
        if baked is not None:
            hours = round(Decimal(sum(baked.seconds.values())) / 3600, 2)
        else:
            self.cost.notes.append(f"{of}: a bake of {hours} h is assumed")
        self._add(
            of, f"builder {BUILDER_TYPE}, {hours} h", "bake", hours, Item("instance", region, BUILDER_TYPE)
        )
        months = hours / HOURS
        self._add(
            of,
            f"its volume, {image.root_gb} GiB gp3",
            "bake",
            image.root_gb * months,
            Item("volume", region, "gp3"),
        )
        self._add(
            of,
            f"its throughput, {BUILDER_MIBPS} MiB/s more",
            "bake",
            BUILDER_MIBPS * months,
            Item("throughput", region, "gp3"),
        )
        if image.instance_types:
            kind = image.instance_types[0]
            what = f"kiln prove --ami on {kind}, {PROOF_HOURS} h"
            self._add(of, what, "bake", PROOF_HOURS, Item("instance", region, kind))

    def _built(self, of: str, name: str, image: Image) -> None:
        """An image of AppStream: made on its image builder, or on a Windows instance and imported."""
        assert image.appstream is not None
        regions = [each.region for each in self.config.target.values() if each.image == name]
        regions += image.publish.regions if image.publish else []
        if not regions:
            self.cost.notes.append(f"{of}: kiln.toml names no region of it, what makes it is not counted")
            return
        if builder := image.appstream.builder:
            self.cost.notes.append(f"{of}: {IMAGE_BUILDER_HOURS} h of an image builder are assumed")
            what = f"image builder {builder.instance_type}, {IMAGE_BUILDER_HOURS} h"
            item = Item("builder", regions[0], builder.instance_type)
            self._add(of, what, "bake", IMAGE_BUILDER_HOURS, item)
            return
        self.cost.notes.append(f"{of}: its Windows instance is not counted")
        if kind := image.appstream.validate_on:
            item = Item("fleet", regions[0], kind)
            self._add(of, f"AppStream's trial of the import on {kind}, 1 h", "bake", Decimal(1), item)

    def _group(self, name: str, target: GroupTarget) -> None:
        of, image = f"target {name}", self.config.image[target.image]
        live = self._live_group(target)
        kinds = image.instance_types
        if live is None:
            self.cost.notes.append(f"{of}: the size of {target.group} is not known; one instance was taken")
            live = {"DesiredCapacity": 1, "Instances": []}
        counts = Counter(each["InstanceType"] for each in live["Instances"])
        wanted = max(0, live["DesiredCapacity"] - counts.total())
        if wanted and not kinds:
            raise KilnError(
                f"{of}: could not determine the instance type of {target.group}",
                f"add instance_types to [image.{target.image}]",
            )
        if wanted:
            counts[kinds[0]] += wanted
        pool = live.get("WarmPoolSize") or 0
        state = (live.get("WarmPoolConfiguration") or {}).get("PoolState", "Stopped")
        if pool and state == "Running" and kinds:
            counts[kinds[0]] += pool
            pool = 0
        self.cost.lines += group_cost(
            self.book, target.region, counts, image.root_gb, of=of, stopped=pool
        ).lines
        for balancer in self._live_balancers(target.region, live.get("TargetGroupARNs") or []):
            self._add(
                of,
                f"load balancer {balancer}",
                "month",
                HOURS,
                Item("balancer", target.region, "application"),
            )

    def _live_group(self, target: GroupTarget) -> dict[str, Any] | None:
        if self.cloud is None:
            return None
        with told(f"reading the group {target.group}"):
            found: list[dict[str, Any]] = self.cloud.client(
                "autoscaling", target.region
            ).describe_auto_scaling_groups(AutoScalingGroupNames=[target.group])["AutoScalingGroups"]
        return found[0] if found else None

    def _live_balancers(self, region: str, target_groups: list[str]) -> Iterable[str]:
        """Names of application load balancers that no line has yet."""
        if self.cloud is None or not target_groups:
            return []
        client = self.cloud.client("elbv2", region)
        with told("reading the load balancers"):
            groups = client.describe_target_groups(TargetGroupArns=target_groups)["TargetGroups"]
            arns = sorted({arn for group in groups for arn in group["LoadBalancerArns"]} - self._balancers)
            if not arns:
                return []
            found = client.describe_load_balancers(LoadBalancerArns=arns)["LoadBalancers"]
        self._balancers |= set(arns)
        return [each["LoadBalancerName"] for each in found if each["Type"] == "application"]

    def _fleet(self, name: str, target: FleetTarget) -> None:
        of, region = f"target {name}", target.region
        live = self._live_fleet(target) or {}
        kind = live.get("InstanceType") or target.instance_type
        count = live.get("ComputeCapacityStatus", {}).get("Desired") or target.capacity
        if count is None:
            self.cost.notes.append(f"{of}: the size of {target.fleet} is not known; one instance was taken")
            count = 1
        if kind is None:
            raise KilnError(
                f"{of}: could not determine the instance type of {target.fleet}",
                f"add instance_type to [target.{name}], or sign in: the fleet knows it",
            )
        streaming = Item("fleet", region, kind)
        if live.get("FleetType", "ALWAYS_ON") == "ON_DEMAND":
            self._add(of, f"{count} × stopped", "month", count * HOURS, Item("stopped", region, "any"))
            self._add(of, f"an hour streamed on {kind}", "use", Decimal(1), streaming)
        else:
            self._add(of, f"{count} × {kind}", "month", count * HOURS, streaming)
        self._add(of, "a user in a month", "use", Decimal(1), Item("user", region, "windows"))

    def _live_fleet(self, target: FleetTarget) -> dict[str, Any] | None:
        if self.cloud is None:
            return None
        with told(f"reading the fleet {target.fleet}"):
            try:
                answer = self.cloud.client("appstream", target.region).describe_fleets(Names=[target.fleet])
            except Exception as error:
                if code(error) == "ResourceNotFoundException":
                    return None
                raise
        fleets: list[dict[str, Any]] = answer["Fleets"]
        return fleets[0] if fleets else None


def _baked(image: str) -> manifest.Manifest | None:
    """Return the manifest of the latest proven version here, if there is one."""
    path = paths.build_dir() / image / "latest" / "manifest.json"
    try:
        return manifest.Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def reckon(loaded: Config, book: Book, cloud: Cloud | None) -> Cost:
    """Reckon what kiln.toml costs.

    Parameters
    ----------
    loaded:
        What it says.
    book:
        Prices.
    cloud:
        Who tells how large groups and fleets are; None asks nobody, and takes one instance each.

    Returns
    -------
    Cost
        A line for each thing.

    Raises
    ------
    KilnError
        AWS was not reached, or a target tells no instance type.
    """
    return _Reckoning(loaded, book, cloud).all()
