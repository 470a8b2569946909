#!/usr/bin/python
"""Holds installed packages at their version, in one call of dpkg: a loop costs a second for each."""

from __future__ import annotations

from fnmatch import fnmatchcase

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: hold_packages
short_description: Hold installed packages, so that apt changes none of them alone
description: What is held already is left as it is. A pattern that matches no installed package fails.
options:
  packages:
    description: Names of packages, or shell patterns of names.
    type: list
    elements: str
    required: true
"""

GONE = {"deinstall", "purge"}
"""What dpkg says of a package that only left its settings."""


def selections(said: str) -> dict[str, str]:
    """What ``dpkg --get-selections`` says: package → selection, those that are gone left out."""
    found = dict(line.split() for line in said.splitlines() if line.strip())
    return {name: state for name, state in found.items() if state not in GONE}


def to_hold(there: dict[str, str], patterns: list[str]) -> tuple[list[str], list[str]]:
    """Packages that are matched and not held yet, and patterns that match nothing."""
    # dpkg shows a package of Multi-Arch: same with its architecture.
    matched = {p: [n for n in there if fnmatchcase(n.partition(":")[0], p)] for p in patterns}
    names = {name for found in matched.values() for name in found}
    return sorted(n for n in names if there[n] != "hold"), [p for p, found in matched.items() if not found]


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        {"packages": {"type": "list", "elements": "str", "required": True}}, supports_check_mode=True
    )
    _, said, _ = module.run_command(["dpkg", "--get-selections"], check_rc=True)
    names, empty = to_hold(selections(said), module.params["packages"])
    if empty:
        module.fail_json(msg=f"no installed package to hold is named {', '.join(empty)}")
    if names and not module.check_mode:
        lines = "".join(f"{name} hold\n" for name in names)
        module.run_command(["dpkg", "--set-selections"], data=lines, check_rc=True)
    module.exit_json(changed=bool(names), packages=names)


if __name__ == "__main__":
    main()
