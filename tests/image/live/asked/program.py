"""The program that asks a guest: the modules of the roles and what they import, as one text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent
PACKAGE = "tests.image.live.asked"

# Runs in the guest. The modules keep their names there, so that their imports are the same.
_START = """
import json, sys, types

def module(name, text=""):
    made = sys.modules[name] = types.ModuleType(name)
    made.__path__ = []
    exec(compile(text, name, "exec"), made.__dict__)
    return made

parts = PACKAGE.split(".")
for length in range(len(parts)):
    module(".".join(parts[: length + 1]))
made = {name: module(PACKAGE + "." + name, text) for name, text in MODULES.items()}
said = {}
for name in ROLES:
    said.update(made[name].answers())
print(json.dumps(said))
"""


def program(roles: Iterable[str]) -> str:
    """Source of a program that prints one JSON document, the answers of these roles.

    A role without a module of its own is not asked.
    """
    asked = [role for role in roles if (FOLDER / f"{role}.py").exists()]
    modules = {name: (FOLDER / f"{name}.py").read_text() for name in ("common", *asked)}
    constants = {"PACKAGE": PACKAGE, "MODULES": modules, "ROLES": asked}
    lines = [f"{name} = json.loads({json.dumps(value)!r})" for name, value in constants.items()]
    return "\n".join(["import json", *lines, _START])
