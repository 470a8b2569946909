"""What ansible-doc says of a module: the arguments that it takes, and the shape of what it answers."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

import ansible

INTERNAL: dict[str, frozenset[str]] = {
    "ansible.windows.win_copy": frozenset(
        {"_copy_mode", "_original_basename", "files", "directories", "symlinks"}
    ),
    "ansible.windows.win_updates": frozenset({"_operation", "_operation_options"}),
}
"""Arguments by which a collection's own action plugin talks with its module: no task may give them."""

COMMON: dict[str, str] = {
    "changed": "bool",
    "failed": "bool",
    "msg": "str",
    "warnings": "list",
    "invocation": "dict",
    "ansible_facts": "dict",
    "ansible_job_id": "str",
    "started": "int",
    "finished": "int",
    "results_file": "str",
}
"""What a module may answer besides its RETURN (reference, "Common Return Values" and "async_status")."""

PROTOCOL: dict[str, frozenset[str]] = {
    "ansible.windows.win_copy": frozenset({"files", "directories", "symlinks"}),
    "ansible.windows.win_updates": frozenset({"cancel_options", "poll_options", "output"}),
    # It also says what the module has said that was not waited for.
    "ansible.windows.async_status": frozenset(
        {"cmd", "rc", "delta", "start", "end", "stdout_lines", "stderr_lines"}
    ),
}
"""What a module answers besides: mostly to its own action plugin."""

OTHERWISE: dict[str, frozenset[str]] = {
    # Documented as text; the module's source hands on what the registry has, a number where that is one.
    "ansible.windows.win_reg_stat": frozenset({"value", "raw_value"}),
}
"""What a module answers in another type than it documents: a playbook must take both."""

TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "path": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
    "complex": (dict, list),
}

_CHECKS = ("type", "elements", "choices", "required", "aliases")


@dataclass(frozen=True)
class Module:
    """A module as it is documented.

    Parameters
    ----------
    name:
        With its collection.
    options:
        Name → what ansible-doc says of it.
    answers:
        Key → what ansible-doc says of it.
    """

    name: str
    options: Mapping[str, Any]
    answers: Mapping[str, Any]

    def complaints(self, arguments: Mapping[str, Any], internal: bool = False) -> list[str]:
        """What is wrong with arguments, a line each.

        Parameters
        ----------
        arguments:
            As a host receives them, or as a task has them where no template stands in them.
        internal:
            Whether those of the collection's own action plugin may be among them.
        """
        known = INTERNAL.get(self.name, frozenset()) if internal else frozenset()
        given = {name: value for name, value in arguments.items() if name not in known}
        # What Windows modules are not given and what is null is the same to them.
        given = {name: value for name, value in given.items() if value is not None}
        validator = ArgumentSpecValidator(_specification(self.options), **relations(self.name))
        return [str(each) for each in validator.validate(given).error_messages]

    def judge(self, name: str, value: Any, templated: bool = False) -> str:
        """What is wrong with one argument of a task, empty where nothing is.

        Parameters
        ----------
        name:
            Of the argument.
        value:
            As it stands in the task.
        templated:
            Whether its value is only known when the task runs.
        """
        aliases = {alias: each for each, said in self.options.items() for alias in said.get("aliases") or ()}
        option = aliases.get(name, name)
        if option not in self.options:
            return f"{self.name} documents no argument {name}"
        if templated:
            return ""
        alone = {option: {**self.options[option], "required": False}}
        validator = ArgumentSpecValidator(_specification(alone))
        return "; ".join(validator.validate({option: value}).error_messages)

    def misshapen(self, answer: Mapping[str, Any]) -> list[str]:
        """What of an answer the module does not document, a line each."""
        found = []
        for key, value in answer.items():
            if key in PROTOCOL.get(self.name, frozenset()) | OTHERWISE.get(self.name, frozenset()):
                continue
            kind = COMMON.get(key) or (self.answers.get(key) or {}).get("type")
            # The facts of a module stand in its RETURN by their own names.
            if kind is None and key not in self.answers:
                found.append(f"{self.name} documents no answer {key}")
            elif value is not None and kind in TYPES and not _is_a(value, TYPES[kind]):
                found.append(f"{self.name} documents {key} as {kind}, not as {value!r}")
        return found


def _is_a(value: Any, types: tuple[type, ...]) -> bool:
    # A bool is an int to Python, and to nobody else.
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def _specification(options: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, said in options.items():
        found[name] = {key: said[key] for key in _CHECKS if said.get(key) is not None}
        found[name].setdefault("type", "str")
        if said.get("suboptions"):
            found[name]["options"] = _specification(said["suboptions"])
    return found


_RELATION = re.compile(
    r"^    (mutually_exclusive|required_together|required_one_of|required_if) = (?=@\()", re.MULTILINE
)
_TOKEN = re.compile(r"""(@\()|(\))|'([^']*)'|"([^"]*)"|(\$true|\$false)""")


@functools.cache
def relations(name: str) -> dict[str, list[list[Any]]]:
    """Which arguments exclude or need each other: that only the module's own text says.

    Parameters
    ----------
    name:
        Of the module, with its collection.
    """
    path = source(name)
    text = path.read_text(encoding="utf-8-sig") if path else ""
    return {found[1]: _array(text, found.end()) for found in _RELATION.finditer(text)}


def _array(text: str, start: int) -> list[Any]:
    """Read an array of PowerShell that holds strings, truths and arrays."""
    open_arrays: list[list[Any]] = [[]]
    for token in _TOKEN.finditer(text, start):
        opened, closed, single, double, truth = token.groups()
        if opened:
            open_arrays.append([])
        elif closed:
            done = open_arrays.pop()
            open_arrays[-1].append(done)
            if len(open_arrays) == 1:
                break
        else:
            open_arrays[-1].append(truth == "$true" if truth else single or double)
    return list(open_arrays[0][0])


def source(name: str) -> Path | None:
    """Return the file of a module's PowerShell, None where it has none of its own."""
    # By Ansible's own place: within it, ansible_collections is a package that lies nowhere.
    space, collection, module = name.split(".", 2)
    path = Path(ansible.__file__).parents[1] / "ansible_collections" / space / collection
    path = path / "plugins/modules" / f"{module}.ps1"
    return path if path.is_file() else None


@functools.cache
def modules(names: frozenset[str]) -> dict[str, Module]:
    """Ask ansible-doc for modules.

    Parameters
    ----------
    names:
        With their collections.

    Returns
    -------
    dict of str to Module
        One for each name that is known.
    """
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-doc"), "-t", "module", "-j", *sorted(names)],
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout)
    return {
        name: Module(name, said[name]["doc"].get("options") or {}, said[name].get("return") or {})
        for name in sorted(names & said.keys())
    }


def keep(folder: Path, names: frozenset[str]) -> None:
    """Keep what ansible-doc says in a folder: it takes a second, and a connection lives for one task."""
    path = folder / "documented.json"
    if not path.exists():
        known = modules(names)
        path.write_text(json.dumps({each.name: [each.options, each.answers] for each in known.values()}))


def kept(folder: Path) -> dict[str, Module]:
    """Return what was kept."""
    said = json.loads((folder / "documented.json").read_text())
    return {name: Module(name, options, answers) for name, (options, answers) in said.items()}
