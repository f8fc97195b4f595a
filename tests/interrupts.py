"""Interrupts at moments that nobody chose."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable

import torch


def interrupted(act: Callable[[], object], delays: Iterable[float], after: Callable[[], None] = lambda: None) -> int:
    """Call `act` once for each delay, in seconds, and interrupt it then; how many calls were stopped.

    What `after` asserts is asked behind each. An interrupt can land inside torch's own `no_grad`, which then leaves
    gradients off: at the end they are on.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    old, stopped = signal.signal(signal.SIGALRM, interrupt), 0
    try:
        for delay in delays:
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, delay)
                    act()
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:  # it may also come while the finally is at work
                stopped += 1
            after()
    finally:
        signal.signal(signal.SIGALRM, old)
        torch.set_grad_enabled(True)
    return stopped
