#!/usr/bin/python
"""Adds components to the distribution's own apt sources, in the lines that are there already."""

from __future__ import annotations

import re
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: apt_components
short_description: Add components to the distribution's own apt sources
description:
  - Edits the lines that name the distribution's suites and its component main, so that no address is written
    anew. Both forms of a source are known, one line and deb822. Sources of others stay as they are.
options:
  components:
    description: Components that each of these sources shall have.
    type: list
    elements: str
    required: true
  folder:
    description: Folder of apt's settings.
    type: path
    default: /etc/apt
  codename:
    description: Codename of the distribution; by default what /etc/os-release says.
    type: str
"""

SUITES = ("", "-updates", "-security")
"""What a suite of Debian's own is named, after the codename."""


def codename() -> str:
    """Codename of the running distribution."""
    found = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    return found[1] if found else ""


class Editor:
    """Adds components, and counts the sources that have them afterwards."""

    def __init__(self, name: str, components: list[str]) -> None:
        self.suites = [f"{name}{suffix}" for suffix in SUITES]
        self.components = components
        self.sources = 0

    def longer(self, found: re.Match[str]) -> str:
        """The match with the missing components behind it; what has no main is not the distribution's."""
        there = found[2].split()
        if "main" not in there:
            return found[0]
        self.sources += 1
        return found[1] + " ".join([*there, *(c for c in self.components if c not in there)])

    def one_line(self, text: str) -> str:
        """Edit ``deb [options] URI suite component …``."""
        start = rf"deb(?:-src)? +(?:\[[^\]]*\] +)?\S+ +(?:{'|'.join(self.suites)}) +"
        return re.sub(rf"^({start})([^#\n]*[^#\s])", self.longer, text, flags=re.MULTILINE)

    def deb822(self, text: str) -> str:
        """Edit the field Components of each stanza whose suites are the distribution's."""
        stanzas = re.split(r"(\n\s*\n)", text)
        for index, stanza in enumerate(stanzas):
            suites = re.search(r"^Suites:(.*)$", stanza, re.MULTILINE)
            if suites and set(suites[1].split()) <= set(self.suites):
                stanzas[index] = re.sub(r"^(Components: *)(.*\S)", self.longer, stanza, flags=re.MULTILINE)
        return "".join(stanzas)


def edit(folder: Path, name: str, components: list[str], write: bool = True) -> tuple[list[str], int]:
    """Edit every source below a folder; return the files that change, and how many sources are there."""
    editor, changed = Editor(name, components), []
    parts = folder / "sources.list.d"
    for path in (folder / "sources.list", *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))):
        if not path.is_file():
            continue
        text = path.read_text()
        edited = editor.deb822(text) if path.suffix == ".sources" else editor.one_line(text)
        if edited != text:
            changed.append(str(path))
            if write:
                path.write_text(edited)
    return changed, editor.sources


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        {
            "components": {"type": "list", "elements": "str", "required": True},
            "folder": {"type": "path", "default": "/etc/apt"},
            "codename": {"type": "str"},
        },
        supports_check_mode=True,
    )
    given = module.params
    name = given["codename"] or codename()
    changed, sources = edit(Path(given["folder"]), name, given["components"], write=not module.check_mode)
    if not sources:
        module.fail_json(
            msg=f"{given['folder']} has no source of {name} with the component main, to which"
            f" {', '.join(given['components'])} could be added"
        )
    module.exit_json(changed=bool(changed), paths=changed)


if __name__ == "__main__":
    main()
