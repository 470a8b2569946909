"""What is said of a verdict, as JSON."""

from __future__ import annotations

import time
from typing import Any

from kiln_instance.settings import Settings

from kiln_health.judge import CHECKS, Verdict, young

STALE = 12
"""Rounds after which a verdict is none any more: the longest round has a probe, a question for the models,
kiln-auth's and nginx's."""

PATHS = {"/healthz": ("instance",), "/readyz": ("instance", "service")}
"""Path → of what it speaks."""

WORDS = {"/healthz": ("healthy", "unhealthy"), "/readyz": ("ready", "not ready")}


def busy(verdict: Verdict, settings: Settings) -> dict[str, Any]:
    """What the server works on, and what explains its silence."""
    look = verdict.look
    requests = look.seen.requests if look.seen else ()
    return {
        "requests": [{"kind": each.kind, "seconds": round(each.seconds, 1)} for each in requests[:20]],
        "in_flight": look.seen.count if look.seen else 0,
        "queue": look.waiting,
        "trainings": look.trainings,
        "limit_seconds": settings.request,
        "explains_silence": bool(young(look, settings)),
        "answered_probe": look.answered,
        "process_state": look.process.letter if look.process else "",
        "cpu_seconds_since_last_round": look.cpu,
    }


def answer(
    path: str, verdict: Verdict | None, settings: Settings, aws: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    """Status and body of an answer.

    Parameters
    ----------
    path:
        One of PATHS, or another.
    verdict:
        The newest one, None before the first.
    settings:
        Limits.
    aws:
        How telling and publishing stand.
    """
    if path not in PATHS:
        return 404, {"status": "not found", "paths": list(PATHS)}
    good, bad = WORDS[path]
    age = time.time() - verdict.look.when if verdict else None
    # A clock that is set right after the boot makes a verdict look old, or from the future, until the next.
    if verdict is None or age is None or abs(age) > STALE * settings.interval:
        what = "no checks yet" if age is None else f"the last checks are {age:.0f} s old"
        reason = {"check": "kiln-health", "what": what, "do": "systemctl status kiln-health"}
        return 503, {"status": bad, "reasons": [reason]}
    wrong = verdict.wrong(PATHS[path])
    rows = {check.name for check in CHECKS if check.of in PATHS[path]}
    return 503 if wrong else 200, {
        "status": bad if wrong else good,
        "reasons": [{"check": n, "what": f.what, "do": f.do, "curable": f.curable} for n, f in wrong.items()],
        "passed": sorted(rows - set(wrong)),
        "age_seconds": round(age, 1),
        "busy": busy(verdict, settings),
        "aws": aws,
    }
