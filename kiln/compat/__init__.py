"""Which driver, CUDA, torch and GPU go together: a table of data with sources, and one judge over facts.

The judge is asked at a bake (by the static checks, of the bytes themselves) and again before a rollout (of
the manifest's facts): a branch of drivers that is supported today may not be then.
"""

from __future__ import annotations

from kiln.compat.rules import WAIVABLE, judge
from kiln.compat.stack import LIBRARIES, Stack, Verdict
from kiln.compat.table import Instance, Table, load

__all__ = ["LIBRARIES", "WAIVABLE", "Instance", "Stack", "Table", "Verdict", "judge", "load"]
