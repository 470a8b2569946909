"""What a long command shows while it works: its stages, the task at hand, elapsed time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.text import Text


def clock(seconds: float) -> str:
    """Minutes and seconds, ``m:ss``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Progress:
    """Shows stages live on a terminal, and as one line each elsewhere.

    Parameters
    ----------
    title:
        What is being done.
    console:
        Where to show it, stderr by default.
    """

    def __init__(self, title: str, console: Console | None = None) -> None:
        self.title = title
        self.console = console or Console(stderr=True, highlight=False)
        self.seconds: dict[str, float] = {}
        self._start = time.monotonic()
        self._stage: tuple[str, float] | None = None
        self._detail = ""
        self._spinner = Spinner("dots")
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        self.console.print(f"[bold]{self.title}[/bold]")
        if self.console.is_terminal:
            self._live = Live(
                console=self.console, get_renderable=self._render, refresh_per_second=4, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _render(self) -> Group:
        if self._stage is None:
            return Group()
        name, since = self._stage
        self._spinner.update(text=Text(f"{name:<10} {clock(time.monotonic() - since)}  {self._detail}"))
        return Group(self._spinner)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and show it; its seconds are kept under its name."""
        since = time.monotonic()
        self._stage, self._detail = (name, since), ""
        if self._live is None:
            self.console.print(f"[{clock(since - self._start)}] {name} …", markup=False, soft_wrap=True)
        try:
            yield
        except BaseException:
            self.console.print(
                f"[red]✗[/red] {name:<10} {clock(time.monotonic() - since)}  {escape(self._detail)}",
                soft_wrap=True,
            )
            raise
        else:
            self.seconds[name] = round(time.monotonic() - since, 2)
            self.console.print(
                f"[green]✓[/green] {name:<10} {clock(self.seconds[name])}  {escape(self._detail)}",
                soft_wrap=True,
            )
        finally:
            self._stage = None

    def detail(self, text: str) -> None:
        """Say what the stage is at."""
        self._detail = text.strip()[:100]
        if self._live is None and self._detail:
            self.console.print(
                f"[{clock(time.monotonic() - self._start)}]   {self._detail}", markup=False, soft_wrap=True
            )

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, markup=False, soft_wrap=True)
