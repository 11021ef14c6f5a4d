"""What is kept of a browser with ``SESSION_TRACK_DEVICE``: its address, or only the network of it, and its name."""

from __future__ import annotations

import ipaddress
import typing as t

if t.TYPE_CHECKING:
    from flask import Request

_IPV4_PREFIX, _IPV6_PREFIX = 24, 48


def client_info(request: Request, *, truncate: bool) -> dict[str, str]:
    """``ip`` and ``user_agent`` of *request*, as far as known; with *truncate* the address's network alone."""
    info = {"ip": request.remote_addr or "", "user_agent": request.user_agent.string[:512]}
    if truncate and info["ip"]:
        info["ip"] = _network(info["ip"])

    return {name: value for name, value in info.items() if value}


def _network(address: str) -> str:
    """The network an address is in: enough to recognise a place, too little to recognise a person."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return ""

    prefix = _IPV4_PREFIX if ip.version == 4 else _IPV6_PREFIX  # noqa: PLR2004
    return str(ipaddress.ip_network(f"{ip}/{prefix}", strict=False))
