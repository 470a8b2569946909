"""A polite kill ends a run as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from launch.interrupt import as_interrupt


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_polite_kill_is_ctrl_c_inside_and_what_it_was_outside(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match=number.name), as_interrupt():
        os.kill(os.getpid(), number)
        signal.pause()
    assert signal.getsignal(number) is before


def test_another_thread_is_left_alone() -> None:
    done: list[bool] = []

    def run() -> None:
        with as_interrupt():
            done.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [True]
