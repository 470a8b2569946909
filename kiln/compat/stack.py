"""What is judged, the facts that must go together, and what a rule says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kiln.manifest import Driver, Facts, Waiver

Outcome = Literal["passed", "refused", "not-for-stable", "waived"]

LIBRARIES = ("libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler")
"""The driver's libraries that inference and training load: CUDA, NVML and the compiler of PTX."""


@dataclass(frozen=True)
class Stack:
    """The facts of an image that must go together.

    Parameters
    ----------
    kernel:
        Release of its one kernel; None where it has none or several.
    driver:
        NVIDIA's driver; None where there is none.
    torch:
        Version of torch; None without torch.
    cuda:
        CUDA version that torch was built for; None without CUDA.
    architectures:
        GPU code that torch brings.
    """

    kernel: str | None
    driver: Driver | None
    torch: str | None
    cuda: str | None
    architectures: tuple[str, ...]

    @classmethod
    def of(cls, facts: Facts) -> Stack:
        """Return the stack of a manifest.

        Parameters
        ----------
        facts:
            As the manifest has them.

        Returns
        -------
        Stack
            For the judge.
        """
        return cls(facts.kernel, facts.driver, facts.torch, facts.cuda, tuple(facts.architectures))


@dataclass(frozen=True)
class Verdict:
    """What a rule says of an image.

    Parameters
    ----------
    name:
        Of the rule.
    outcome:
        ``not-for-stable`` and ``waived`` refuse no bake; the channel ``stable`` refuses the first always and
        the second after the waiver's last day.
    sentence:
        One line: what is, and where it refuses what to do.
    waiver:
        What accepts a waived refusal.
    """

    name: str
    outcome: Outcome
    sentence: str
    waiver: Waiver | None = None
