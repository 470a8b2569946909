"""Templates of a role as its tasks render them, without a host."""

from __future__ import annotations

from typing import Any, Literal

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from scripts import coverage


def templar(role: str, system: Literal["Windows", "Debian"], **given: Any) -> Templar:
    """Return what renders with a role's defaults and variables.

    Parameters
    ----------
    role:
        Its name.
    system:
        The family that the host is of.
    given:
        Variables over those.
    """
    loader = DataLoader()
    at = coverage.roles() / role
    known: dict[str, Any] = {}
    for name in ("defaults", "vars"):
        known |= loader.load_from_file(str(at / name / "main.yml"), trusted_as_template=True)
    known |= {
        "ansible_facts": {"os_family": system},
        "ansible_search_path": [str(at)],
        "role_path": str(at),
        "ansible_managed": "Ansible managed",
    }
    return Templar(loader, {**known, **given})


def render(role: str, template: str, system: Literal["Windows", "Debian"], **given: Any) -> str:
    """Return a template of a role, rendered."""
    made = templar(role, system, **given).template(
        trust_as_template("{{ lookup('template', '" + template + "') }}")
    )
    return str(made)
