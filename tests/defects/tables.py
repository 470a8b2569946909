"""All tables of planted defects together, and which checks have none."""

from __future__ import annotations

import re

from kiln import paths
from tests.defects import boot_rows, campaign, client, guests, live, proof, rows
from tests.defects.defect import Row

PLANTED: list[Row] = [
    *rows.STATIC,
    *boot_rows.DEFECTS,
    *guests.DEFECTS,
    *proof.FILES,
    *proof.DISK,
    *client.DEFECTS,
]
"""What is done to a root, a container, a guest or a file."""

RECORDED: list[Row] = [*rows.LIVE, *proof.BOOTS]
"""What a guest would answer, and nobody made it."""

CHECKS = (
    campaign.written("static")
    | campaign.written("client")
    | live.CHECKS.keys()
    | proof.CHECKS
    | {client.SESSION}
)
"""Every check of an image, by id without ``[…]``."""

DOCUMENT = "docs/executed.md"
HEADING = "## Checks whose defect is only recorded"


def checks(table: list[Row]) -> set[str]:
    """The checks that the rows of a table make fail."""
    return {check for row in table for check in row.checks}


def listed() -> set[str]:
    """The checks that the document names as those for which no defect is planted."""
    _, _, section = (paths.ROOT / DOCUMENT).read_text(encoding="utf-8").partition(f"\n{HEADING}\n")
    return set(re.findall(r"^\| `([\w: ]+)` \|", section.partition("\n## ")[0], re.MULTILINE))
