"""What people call a device: "Firefox on Linux"."""

from __future__ import annotations

import datetime as dt
import functools

from .texts import noted_many, say, say_many

try:
    from ua_parser import parse
except ImportError as error:
    raise ImportError(
        "flask_mongo_session.contrib.devices needs the package 'ua-parser' to name devices: "
        "pip install 'flask-mongoengine-session[devices]'"
    ) from error

UNKNOWN = "Unknown device"

#: Names of the parser's that people would not use; what is not listed stays.
_BROWSERS = {
    "Chrome Mobile": "Chrome",
    "Chrome Mobile WebView": "Chrome",
    "Chrome Mobile iOS": "Chrome",
    "Edge Mobile": "Edge",
    "Firefox Mobile": "Firefox",
    "Firefox iOS": "Firefox",
    "HeadlessChrome": "Chrome",
    "Mobile Safari": "Safari",
    "Mobile Safari UI/WKWebView": "Safari",
    "Opera Mobile": "Opera",
}
_SYSTEMS = {"Mac OS X": "macOS", "Chrome OS": "ChromeOS", "Other": ""}
_DEVICES_BY_NAME = ("iPhone", "iPad")
_STEPS = ((60, "minute"), (3600, "hour"), (86400, "day"))
_AGO = {
    "minute": noted_many("%(count)d minute ago", "%(count)d minutes ago"),
    "hour": noted_many("%(count)d hour ago", "%(count)d hours ago"),
    "day": noted_many("%(count)d day ago", "%(count)d days ago"),
}


@functools.lru_cache(maxsize=8_192)
def device_name(user_agent: str | None) -> str:
    """Browser and system of a ``User-Agent`` header; :data:`UNKNOWN` where it says nothing that is known."""
    found = parse(user_agent) if user_agent else None
    if found is None:
        return UNKNOWN

    browser = _BROWSERS.get(found.user_agent.family, found.user_agent.family) if found.user_agent else ""
    system = _SYSTEMS.get(found.os.family, found.os.family) if found.os else ""
    if found.device and found.device.family in _DEVICES_BY_NAME:
        system = found.device.family

    return " on ".join(part for part in (browser, system) if part) or UNKNOWN


def device_text(user_agent: str | None) -> str:
    """:func:`device_name` in the visitor's language."""
    name = device_name(user_agent)
    if name == UNKNOWN:
        return say("Unknown device")

    browser, on, system = name.partition(" on ")
    return say("%(browser)s on %(system)s", browser=browser, system=system) if on else name


def time_ago(moment: dt.datetime | None, now: dt.datetime) -> str:
    """How long ago *moment* was: "just now", "5 minutes ago", "2 days ago"."""
    if moment is None:
        return say("some time ago")

    seconds = (now - moment).total_seconds()
    passed = [(int(seconds // length), unit) for length, unit in _STEPS if seconds >= length]
    if not passed:
        return say("just now")

    count, unit = passed[-1]
    one, many = _AGO[unit]
    return say_many(one, many, count)
