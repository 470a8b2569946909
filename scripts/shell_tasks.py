"""Tasks that hand a program to a shell: one of more than five lines belongs into a module or a file.

``python -m scripts.shell_tasks FOLDER …`` names those that are too long, and fails where there is one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

LONGEST = 5
"""Lines, as they stand in the file: folding them into one does not make a program shorter."""

MODULES = frozenset({"shell", "command", "raw", "win_shell", "win_command", "win_powershell"})

# There, a key of such a name is a variable or its description.
_NO_TASKS = frozenset({"defaults", "vars", "meta"})


def _mappings(node: yaml.Node | None) -> Iterator[yaml.MappingNode]:
    if isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            yield from _mappings(entry)
    elif isinstance(node, yaml.MappingNode):
        yield node
        for _, value in node.value:
            yield from _mappings(value)


def _programs(task: yaml.MappingNode) -> Iterator[yaml.Node]:
    for key, value in task.value:
        if str(key.value).rpartition(".")[2] not in MODULES:
            continue
        if isinstance(value, yaml.MappingNode):
            arguments = ("cmd", "argv", "script", "_raw_params")
            yield from (given for name, given in value.value if name.value in arguments)
        else:
            yield value


def _lines(node: yaml.Node, text: list[str]) -> int:
    first, last = node.start_mark.line, node.end_mark.line + (node.end_mark.column > 0)
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        first += 1  # the line of the sign
    return sum(bool(line.strip()) for line in text[first:last])


def too_long(path: Path) -> list[int]:
    """Return where programs of more than five lines begin in a file of tasks.

    Parameters
    ----------
    path:
        A YAML file: tasks, handlers or a playbook.

    Returns
    -------
    list of int
        Lines of the file, from 1.
    """
    content = path.read_text(encoding="utf-8")
    text = content.splitlines()
    return [
        program.start_mark.line + 1
        for document in yaml.compose_all(content, Loader=yaml.SafeLoader)
        for task in _mappings(document)
        for program in _programs(task)
        if _lines(program, text) > LONGEST
    ]


def main(folders: list[str]) -> int:
    """Name the programs that are too long.

    Parameters
    ----------
    folders:
        Where the roles and playbooks lie.

    Returns
    -------
    int
        0 where there is none, else 1; 2 where there is no file to look at.
    """
    files = [path for folder in folders for path in sorted(Path(folder).rglob("*.yml"))]
    files = [path for path in files if not _NO_TASKS & set(path.parts)]
    if not files:
        print(f"no tasks below {', '.join(folders) or 'no folder'}")
        return 2
    found = [f"{path}:{line}" for path in files for line in too_long(path)]
    for place in found:
        print(f"{place}: a shell or command task of more than {LONGEST} lines; make it a module or a file")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
