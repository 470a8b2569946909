"""What differs between two versions of an image, from their manifests; nothing is guessed from names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kiln.manifest import Built, Facts

SHOWN = 6
"""Names that a line for people has before it says how many more there are; ``--json`` has them all."""

Pair = tuple[str | None, str | None]
"""Before and after; None where there is none."""


def _driver(facts: Facts) -> str | None:
    return f"{facts.driver.version} ({facts.driver.flavour})" if facts.driver else None


_SINGLE: dict[str, Callable[[Facts], str | None]] = {
    "kernel": lambda facts: facts.kernel,
    "driver": _driver,
    "CUDA": lambda facts: facts.cuda,
    "torch": lambda facts: facts.torch,
    "MONAI Label": lambda facts: facts.monai_label,
    "python": lambda facts: facts.python,
    "debian": lambda facts: facts.debian,
    "roles": lambda facts: " ".join(facts.roles),
    "settings schemas": lambda facts: ", ".join(map(str, facts.settings_schemas)) or "none",
    "weights": lambda facts: facts.weights,
    "slicer": lambda facts: facts.slicer,
}
"""Facts that are told one by one."""

_MANY: dict[str, Callable[[Built], Mapping[str, str]]] = {
    "packages": lambda manifest: manifest.facts.packages,
    "python packages": lambda manifest: manifest.facts.distributions,
    "our files": lambda manifest: manifest.inputs.files,
}
"""Facts that are counted, with the names of what differs."""


@dataclass(frozen=True)
class Contents:
    """What differs.

    Parameters
    ----------
    facts:
        Name of a fact → before and after.
    many:
        Name of a set → name in it → before and after.
    bytes:
        Of the root, before and after; None where nobody could see it.
    """

    facts: dict[str, Pair]
    many: dict[str, dict[str, Pair]]
    bytes: tuple[int | None, int | None]

    def lines(self) -> list[str]:
        """Return it for people: a line for each fact and each set that differs."""
        lines = [f"{name} {old or 'none'} → {new or 'none'}" for name, (old, new) in self.facts.items()]
        for name, pairs in self.many.items():
            kinds = (
                ("new", [key for key, (old, _) in pairs.items() if old is None]),
                ("gone", [key for key, (_, new) in pairs.items() if new is None]),
                ("changed", [key for key, pair in pairs.items() if None not in pair]),
            )
            told = [f"{len(keys)} {kind} ({_few(keys, pairs)})" for kind, keys in kinds if keys]
            lines.append(f"{name}: {', '.join(told)}")
        old_size, new_size = self.bytes
        if old_size is not None and new_size is not None and old_size != new_size:
            lines.append(f"root {old_size / 1e9:.2f} GB → {new_size / 1e9:.2f} GB")
        return lines or ["the same packages, files and facts"]

    def as_json(self) -> dict[str, Any]:
        """Return it for programs: every name, before and after."""
        return {
            "facts": {name: {"before": old, "after": new} for name, (old, new) in self.facts.items()},
            **{
                name.replace(" ", "_"): {
                    key: {"before": old, "after": new} for key, (old, new) in pairs.items()
                }
                for name, pairs in self.many.items()
            },
            "root_bytes": {"before": self.bytes[0], "after": self.bytes[1]},
        }


def _few(keys: list[str], pairs: Mapping[str, Pair]) -> str:
    """Name the first of them; versions where they are short, digests never."""
    told = []
    for key in keys[:SHOWN]:
        old, new = pairs[key]
        digests = any(value is not None and len(value) == 64 for value in (old, new))
        told.append(key if digests or None in (old, new) else f"{key} {old} → {new}")
    rest = len(keys) - len(told)
    return ", ".join(told) + (f" and {rest} more" if rest else "")


def compare(before: Built, after: Built) -> Contents:
    """Compare two versions.

    Parameters
    ----------
    before:
        Manifest of what runs.
    after:
        Manifest of what is to run.

    Returns
    -------
    Contents
        Only what differs.
    """
    single = {name: (of(before.facts), of(after.facts)) for name, of in _SINGLE.items()}
    many = {name: _differing(of(before), of(after)) for name, of in _MANY.items()}
    return Contents(
        {name: pair for name, pair in single.items() if pair[0] != pair[1]},
        {name: pairs for name, pairs in many.items() if pairs},
        (before.root_bytes, after.root_bytes),
    )


def _differing(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, Pair]:
    return {
        name: (before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    }
