"""What survives no fork: one place that notices a new process and has everybody begin anew.

Threads, locks and sockets of a parent process do not exist in its children. Python tells us of its own forks; a server
written in C may fork without a word, so the first use in a process asks as well.
"""

from __future__ import annotations

import functools
import os
import typing as t
import weakref


class PerProcess(t.Protocol):
    """Something that holds threads, locks or sockets."""

    def reset_after_fork(self, *, announced: bool = False) -> None:
        """Let go of what belongs to the parent process."""


#: The process that everything registered here belongs to.
current = os.getpid()
_registered: weakref.WeakSet[PerProcess] = weakref.WeakSet()


def register(holder: PerProcess) -> None:
    """Have *holder* reset in every process forked from this one, for as long as somebody else holds it."""
    _registered.add(holder)


def notice_fork(*, announced: bool = False) -> None:
    """Reset everything registered, if this process is a new one; cheap otherwise.

    *announced*: Python itself forked, so that libraries had their turn to let go of what they hold.
    """
    global current  # noqa: PLW0603 - one per process, by its nature
    if current == os.getpid():
        return

    current = os.getpid()
    for holder in list(_registered):
        holder.reset_after_fork(announced=announced)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=functools.partial(notice_fork, announced=True))
