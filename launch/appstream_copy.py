"""An AppStream image in the other regions of kiln.toml: a builder makes it in one, copies do the rest."""

from __future__ import annotations

from functools import partial

from launch import appstream_image
from launch.appstream import ask, tags
from launch.cloud import Cloud
from launch.plan import Plan, Say, requests

STAGE = "copies"


def add(made: Plan, cloud: Cloud, name: str, home: str, regions: list[str], marks: dict[str, str]) -> None:
    """Plan the copies that are missing.

    Parameters
    ----------
    made:
        Gets a step for each region, side by side.
    cloud:
        The account.
    name:
        Of the image, here and there.
    home:
        Region that it is copied from.
    regions:
        Regions that are to have it.
    marks:
        Its tags: AppStream copies none.

    Raises
    ------
    KilnError
        It could not be found out what is there.
    """
    for region in regions:
        if region == home:
            continue
        there = appstream_image.find(cloud, region, name)
        if there is not None and there["State"] == "AVAILABLE" and "Arn" in there:
            found = tags(cloud, region, there["Arn"])
            if all(key in found for key in marks):
                continue
        failed = there is not None and there["State"] == "FAILED"
        if there is not None and failed:
            made.notes.append(
                f"{region}: an earlier copy did not end well: {appstream_image.explained(there)[0]}"
            )
        made.add(
            STAGE,
            f"copy AppStream image {name} from {home} to {region}, with its tags",
            (
                *requests("appstream", home, "CopyImage"),
                *requests("appstream", region, "TagResource", *(["DeleteImage"] if failed else [])),
            ),
            partial(_copy, cloud, name, home, region, marks, failed),
            lane=region,
        )


def _copy(
    cloud: Cloud, name: str, home: str, region: str, marks: dict[str, str], failed: bool, say: Say
) -> None:
    if failed:
        appstream_image.remove(cloud, region, name, say)
    if appstream_image.find(cloud, region, name) is None:
        ask(
            cloud,
            home,
            f"copying AppStream image {name} to {region}",
            "copy_image",
            settled=lambda: appstream_image.find(cloud, region, name) is not None,
            SourceImageName=name,
            DestinationImageName=name,
            DestinationRegion=region,
        )
    there = appstream_image.available(cloud, region, name, say)
    ask(cloud, region, f"tagging {name} in {region}", "tag_resource", ResourceArn=there["Arn"], Tags=marks)
