"""Every task and handler of the roles ran in the bake or in a scenario, or docs/executed.md says why not."""

from __future__ import annotations

from tests.benchmarks import task_coverage


def test_every_task_ran_or_stands_in_the_list() -> None:
    task_coverage.main()
