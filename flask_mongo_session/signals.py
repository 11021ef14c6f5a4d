"""What happens to sessions, announced with blinker.

Every signal is sent once, after the database has confirmed, and never carries a token or a value. The sender is the
Flask application, or the store where there is none. A receiver that raises is logged and changes nothing for the
session.
"""

from __future__ import annotations

import logging
import typing as t

from blinker import NamedSignal, Namespace

log = logging.getLogger(__name__)
_signals = Namespace()

#: A session was stored for the first time. Arguments: ``sid``, ``user_id`` (or ``None``).
session_created = _signals.signal("session-created")

#: A live session was read, at most once in a request. Arguments: ``sid``, ``user_id``.
session_loaded = _signals.signal("session-loaded")

#: Changed keys of a live session were stored; a touch is no change. Arguments: ``sid``, ``keys`` (names only).
session_updated = _signals.signal("session-updated")

#: A session goes on under a new token, its id kept. Arguments: ``sid``, ``user_id``, ``reason``: ``"login"``,
#: ``"logout"``, ``"switch"``, ``"regenerate"``, ``"confirm"`` or ``"clear"``.
session_regenerated = _signals.signal("session-regenerated")

#: A session was ended before its time. Arguments: ``sid``; ``reason``: ``"logout"``, ``"revoked"`` or ``"merged"``;
#: ``actor``: who revoked it, as far as known, ``None`` otherwise.
session_destroyed = _signals.signal("session-destroyed")

#: A cookie named no live session. Arguments: ``reason``: ``"forged"``, ``"unknown"``, ``"expired"`` or ``"damaged"``;
#: ``sid``, ``None`` when forged.
session_rejected = _signals.signal("session-rejected")

#: Expired sessions were removed. Arguments: ``count``, ``seconds``.
sessions_swept = _signals.signal("sessions-swept")


def announce(signal: NamedSignal, sender: t.Any, **arguments: t.Any) -> None:
    """Send to each receiver on its own: one that raises harms neither the others nor the session."""
    for receiver in signal.receivers_for(sender):
        try:
            receiver(sender, **arguments)
        except Exception:
            log.exception("A receiver of %r raised; the session is not affected.", signal.name)
