"""Where a device is: the network of its address, and what the application calls that."""

from __future__ import annotations

import ipaddress
import logging
import typing as t

log = logging.getLogger(__name__)

#: Bits of an address that stand for the network: a street or a town, not a person.
_PREFIX = {4: 24, 6: 48}

#: Given a stored address (or network), the name of the place for people, or ``None``.
PlaceName = t.Callable[[str], "str | None"]


def network_of(address: str | None) -> str | None:
    """The network that *address* is in; ``None`` where nothing readable is known. A network stays as it is."""
    try:
        interface = ipaddress.ip_interface(address or "")
    except ValueError:
        return None

    ip, known = interface.ip, interface.network
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    elif known.prefixlen <= _PREFIX[ip.version]:
        return str(known)

    return str(ipaddress.ip_network(f"{ip}/{_PREFIX[ip.version]}", strict=False))


def place_of(address: str | None, name: PlaceName | None) -> str | None:
    """What the application calls the place of *address*; ``None`` where it does not know, or fails."""
    if name is None or not address:
        return None

    try:
        return name(address) or None
    except Exception:
        log.exception("The name of a place could not be found; the network is shown in its place.")
        return None
