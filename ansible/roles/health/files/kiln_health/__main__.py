"""``kiln-health``: checks, answers, tells and publishes until it is stopped."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from kiln_instance import settings as settings_
from kiln_instance.imds import Metadata
from kiln_instance.settings import Settings, WrongError
from kiln_instance.systemd import notify, say

from kiln_health import serve
from kiln_health.answer import answer
from kiln_health.group import Finder
from kiln_health.judge import Verdict, judge
from kiln_health.look import Observer
from kiln_health.publish import Publisher
from kiln_health.tell import Teller


class Health:
    """Everything together: rounds in one thread, AWS in another, so that neither waits for the other.

    Parameters
    ----------
    settings:
        Limits and places.
    observer:
        Looks.
    """

    def __init__(self, settings: Settings, observer: Observer) -> None:
        self.settings = settings
        self.observer = observer
        metadata = Metadata(settings.metadata, settings.imds)
        self.finder = Finder(settings, metadata)
        self.teller = Teller(settings, self.finder, metadata)
        self.publisher = Publisher(settings, self.finder)
        self.verdict: Verdict | None = None
        self._said: dict[str, str] = {}

    def round(self) -> None:
        """One round of checks."""
        verdict = judge(self.observer.look(), self.settings)
        self.teller.count(verdict)
        self.verdict = verdict
        found = {name: finding.what for name, finding in verdict.findings.items()}
        for name in self._said.keys() - found.keys():
            say(f"{name}: well again")
        for name in found.keys() - self._said.keys():
            say(f"{name}: {found[name]}; {verdict.findings[name].do}", 4)
        self._said = found
        words = "; ".join(found.values()) or "healthy and ready"
        notify(f"WATCHDOG=1\nSTATUS={words}")

    def tell(self) -> None:
        """What AWS is told after a round."""
        self.teller.act()
        if self.verdict:
            self.publisher.act(self.verdict)

    def ask(self, path: str) -> tuple[int, dict[str, Any]]:
        """Answer a question."""
        made = self.finder.aws
        aws = {
            "where": self.finder.why or "in an Auto Scaling group",
            "health": self.teller.report(),
            "metrics": self.publisher.report(),
            **(made.report() if made else {}),
        }
        return answer(path, self.verdict, self.settings, aws)


def forever(seconds: float, act: Any) -> None:
    """Act again and again, so many seconds apart.

    Parameters
    ----------
    seconds:
        Between the beginnings.
    act:
        What is done.
    """
    while True:
        begin = time.monotonic()
        act()
        time.sleep(max(seconds - (time.monotonic() - begin), 0.1))


def main() -> int:
    """Run as a program; return the exit code."""
    try:
        settings = settings_.load(os.environ)
    except WrongError as error:
        say(f"kiln-health: {error}", 3)
        return 2
    runtime = Path(os.environ.get("RUNTIME_DIRECTORY", "/run/kiln-health"))
    health = Health(settings, Observer(settings, runtime))
    listener = serve.listen(settings.socket)
    threading.Thread(target=serve.serve, args=(listener, health.ask), daemon=True).start()
    health.round()
    notify("READY=1")

    def courier() -> None:
        try:
            forever(settings.interval, health.tell)
        finally:
            # A thread that dies must not leave a program behind that only looks as if it told AWS.
            os._exit(1)

    threading.Thread(target=courier, daemon=True).start()
    forever(settings.interval, health.round)
    return 0


if __name__ == "__main__":
    sys.exit(main())
