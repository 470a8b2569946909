"""Programs of the roles: each module that is on disk is one that the role installs, and no other is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from scripts import role_readme

# Role → where its modules lie on an instance.
INSTALLED = {
    "monai_label": "/opt/monai-label",
    "gateway": "/opt/kiln-gateway",
    "health": "/usr/local/lib/kiln",
    "settings": "/usr/local/lib/kiln",
    "efs_client": "/usr/local/lib/kiln",
}


def written(name: str) -> dict[str, dict[str, Any]]:
    """What a role writes, by path, as Ansible makes it of its variables and templates."""
    role = role_readme.ROLES / name
    loader = DataLoader()
    known: dict[str, Any] = {}
    for file in ("defaults", "vars"):
        known |= loader.load_from_file(str(role / file / "main.yml"), trusted_as_template=True)
    known |= {"role_path": str(role), "ansible_managed": "by Ansible", "ansible_search_path": [str(role)]}
    parts = [
        part for part in (f"__{name}_files", f"__{name}_own_files", f"__{name}_drop_ins") if part in known
    ]
    templar = Templar(loader, known)
    made = [one for part in parts for one in templar.template(trust_as_template("{{ " + part + " }}"))]
    return {str(one["dest"]): one for one in made}


def modules(name: str) -> list[Path]:
    """Modules of a role, below its files."""
    files = role_readme.ROLES / name / "files"
    found = (path.relative_to(files) for path in files.rglob("*.py") if "__pycache__" not in path.parts)
    return sorted(found)


def test_every_role_with_a_package_is_here() -> None:
    found = {path.parts[-4] for path in role_readme.ROLES.glob("*/files/*/*.py")}
    assert found == set(INSTALLED)


@pytest.mark.parametrize("name", INSTALLED)
def test_each_module_is_installed_as_it_is(name: str) -> None:
    made, place = written(name), INSTALLED[name]
    files = role_readme.ROLES / name / "files"
    for path in modules(name):
        dest = f"{place}/{path}"
        assert dest in made, f"{path} is not installed: name it in the role's vars"
        assert made[dest]["content"] == (files / path).read_text(), f"{dest} has the text of another file"
