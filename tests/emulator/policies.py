"""Policies of IAM, evaluated: actions, resources and the conditions that policies of launchers use.

An operator or a key that is not known here fails: a condition that cannot be judged must not let anybody in.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Statement = dict[str, Any]


@dataclass(frozen=True)
class Need:
    """What a request needs to be allowed.

    Parameters
    ----------
    action:
        As ``ec2:CopyImage``.
    resource:
        ARN; ``*`` where the action knows no resources.
    context:
        Keys of conditions, lower case → their values; a key that is missing is not in the request.
    """

    action: str
    resource: str
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def _like(value: str, pattern: str) -> bool:
    # IAM's wildcards are * and ? alone; a bracket is a bracket.
    return fnmatch.fnmatchcase(value, pattern.replace("[", "[[]"))


def _same(value: str, wanted: str) -> bool:
    return value == wanted


OPERATORS: dict[str, tuple[Callable[[str, str], bool], bool]] = {
    "StringEquals": (_same, True),
    "StringNotEquals": (_same, False),
    "StringLike": (_like, True),
    "StringNotLike": (_like, False),
    "StringEqualsIgnoreCase": (lambda value, wanted: value.lower() == wanted.lower(), True),
    "ArnEquals": (_like, True),
    "ArnLike": (_like, True),
    "ArnNotLike": (_like, False),
    "Bool": (lambda value, wanted: value.lower() == wanted.lower(), True),
}
"""Operator → how one value is compared, and whether one that fits is what is wanted."""


def allowed(need: Need, documents: list[dict[str, Any]]) -> bool:
    """Whether policies allow something, and none denies it.

    Parameters
    ----------
    need:
        What is asked for.
    documents:
        Policies, as JSON has them.
    """
    effects = [
        statement["Effect"]
        for document in documents
        for statement in _listed(document.get("Statement", []))
        if _about(statement, need)
    ]
    return "Deny" not in effects and "Allow" in effects


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _about(statement: Statement, need: Need) -> bool:
    action = need.action.lower()
    if "Action" in statement:
        fits = any(_like(action, str(each).lower()) for each in _listed(statement["Action"]))
    else:
        fits = not any(_like(action, str(each).lower()) for each in _listed(statement["NotAction"]))
    if not fits:
        return False
    if "Resource" in statement:
        fits = any(_like(need.resource, str(each)) for each in _listed(statement["Resource"]))
    elif "NotResource" in statement:
        fits = not any(_like(need.resource, str(each)) for each in _listed(statement["NotResource"]))
    return fits and conditions_hold(statement, need)


def conditions_hold(statement: Statement, need: Need) -> bool:
    """Whether all conditions of a statement hold of a request."""
    return all(
        _holds(operator, key.lower(), [str(_json(each)) for each in _listed(wanted)], need)
        for operator, keys in statement.get("Condition", {}).items()
        for key, wanted in keys.items()
    )


def _json(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _holds(operator: str, key: str, wanted: list[str], need: Need) -> bool:
    values = need.context.get(key)
    if operator == "Null":
        return (values is None) == (wanted[0].lower() == "true")
    name = operator.removesuffix("IfExists")
    if name != operator and values is None:
        return True
    quantifier, _, plain = name.rpartition(":")
    if plain not in OPERATORS:
        raise NotImplementedError(f"the operator {operator} of a condition")
    compare, positive = OPERATORS[plain]
    if values is None:
        # ForAllValues holds of no values; a negated comparison holds of a key that is not there.
        return quantifier == "ForAllValues" or (not positive and not quantifier)
    fits = [any(compare(value, each) for each in wanted) is positive for value in values]
    return all(fits) if quantifier == "ForAllValues" else any(fits) if quantifier else all(fits)
