"""What is under way, counted so that nothing is missed: by the server's table, by nginx, by the kernel."""

from __future__ import annotations

from pathlib import Path

import kiln_inflight
from kiln_instance import server
from kiln_instance.settings import Settings


class Work:
    """Counts.

    Parameters
    ----------
    settings:
        Places.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.requests = 0
        self.trainings = 0
        self.batches = 0
        self.idle = 0

    def look(self) -> None:
        """Count once more."""
        seen = kiln_inflight.read(Path(self.settings.table))
        held = server.waiting(self.settings.nginx, self.settings.nginx_path)
        # nginx holds a request longer than the server works on it: before, and until its client has the
        # answer.
        self.requests = max(seen.count if seen else 0, held or 0)
        tasks = server.tasks(self.settings.cgroup)
        self.trainings, self.batches = tasks["train"], tasks["batch_infer"]
        self.idle = 0 if self.requests or self.tasks else self.idle + 1

    @property
    def tasks(self) -> int:
        """Trainings and batch inferences: both go on for hours after their request was answered."""
        return self.trainings + self.batches

    def words(self) -> str:
        """In words."""
        batches = f" and {self.batches} batch inferences" if self.batches else ""
        return f"{self.requests} requests and {self.trainings} trainings{batches}"
