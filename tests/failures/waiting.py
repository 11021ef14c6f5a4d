"""Waiting with an end."""

from __future__ import annotations

import time


def eventually(condition, seconds, what):
    """The first true result of *condition*, within so many seconds."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.02)
    return result


def quickest(attempt, seconds, tries=3):
    """The figure of the first attempt that keeps within so many seconds, else the best: other load only adds."""
    figures = []
    while len(figures) < tries and (not figures or figures[-1] > seconds):
        figures.append(attempt())
    return min(figures)
