"""Each role's README, made from its argument specs: ``python -m scripts.role_readme [--check]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from kiln import paths

ROLES = paths.ROOT / "ansible/roles"

_HEAD = "<!-- Made by `python -m scripts.role_readme` from meta/argument_specs.yml. -->"


def _sentence(text: str) -> str:
    return text.strip() if text.strip().endswith(".") else f"{text.strip()}."


def _code(value: object) -> str:
    """Render a default as YAML in one line."""
    if value in ("", None, [], {}):
        return "empty"
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).strip()
    return f"`{text.removesuffix('...').strip()}`"


def _options(options: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, option in options.items():
        kind = f"{option['type']} of {option['elements']}" if "elements" in option else option["type"]
        kind += f": {', '.join(option['choices'])}" if "choices" in option else ""
        default = "required" if option.get("required") else _code(option.get("default"))
        yield f"| `{prefix}{name}` | {kind} | {default} | {_sentence(option['description'])} |"
        yield from _options(option.get("options", {}), f"{prefix}{name}.")


def render(role: Path) -> str:
    """Make a role's README.

    Parameters
    ----------
    role:
        Folder of the role.

    Returns
    -------
    str
        Markdown.

    Raises
    ------
    KeyError
        The specs lack what a README needs: a description, a type.
    OSError
        The role has no specs.
    """
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    main = specs["argument_specs"]["main"]
    lines = [f"# {role.name}", "", _HEAD, "", _sentence(main["short_description"]), ""]
    for paragraph in main["description"]:
        lines += [_sentence(paragraph), ""]
    lines += [
        "| variable | type | default | what it is |",
        "| --- | --- | --- | --- |",
        *_options(main["options"]),
    ]
    return "\n".join(lines) + "\n"


def stale(roles: Path) -> list[Path]:
    """Return the READMEs that are missing or differ from what the specs say now.

    Parameters
    ----------
    roles:
        Folder of the roles.
    """
    readmes = [specs.parent.parent / "README.md" for specs in sorted(roles.glob("*/meta/argument_specs.yml"))]
    return [
        path
        for path in readmes
        if not path.exists() or path.read_text(encoding="utf-8") != render(path.parent)
    ]


def main() -> int:
    """Write the READMEs, or with --check only compare them; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.role_readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a README is stale")
    check = parser.parse_args().check
    for path in stale(ROLES):
        shown = path.relative_to(paths.ROOT)
        if check:
            print(f"error: {shown} is stale\n  fix: python -m scripts.role_readme", file=sys.stderr)
        else:
            path.write_text(render(path.parent), encoding="utf-8")
            print(f"wrote {shown}")
    return 1 if check and stale(ROLES) else 0


if __name__ == "__main__":
    sys.exit(main())
