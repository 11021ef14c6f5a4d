"""Addresses and networks as ranges of the text that records keep of an address."""

from __future__ import annotations

import ipaddress
import itertools
import typing as t

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Filter = dict[str, t.Any]

_OCTET, _GROUP = 8, 16
#: Networks that SESSION_TRACK_DEVICE = "truncated" keeps instead of an address.
_KEPT = {4: 24, 6: 48}


def network_of(text: str) -> Network | None:
    """The address or network that *text* names (``198.51.100.7``, ``198.51.0.0/16``, ``2001:db8::/32``)."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def is_beginning(text: str) -> bool:
    """Whether *text* is the beginning of an address: ``198.51.``, ``2001:db8:``."""
    return text[-1:] in (".", ":") and set(text.lower()) <= set("0123456789abcdef.:")


def begins_with(prefix: str) -> Filter:
    """A range of text; no regular expression."""
    return {"$gte": prefix, "$lt": prefix + "\U0010ffff"}


def spellings(network: Network) -> list[str]:
    """How a record may say the one address of *network*, the network that it is in included."""
    address = network.network_address
    around = ipaddress.ip_network(f"{address}/{_KEPT[address.version]}", strict=False)
    mapped = [f"::ffff:{address}"] if address.version == 4 else []  # noqa: PLR2004 - IPv4
    return [str(address), str(around), *mapped]


def prefix_of(network: Network) -> tuple[str, bool]:
    """The text with which every address in *network* begins, and whether no other address begins with it."""
    if network.version == 4:  # noqa: PLR2004 - IPv4
        octets = str(network.network_address).split(".")[: network.prefixlen // _OCTET]
        return "".join(f"{octet}." for octet in octets), 0 < len(octets) * _OCTET == network.prefixlen

    groups = network.network_address.exploded.split(":")[: network.prefixlen // _GROUP]
    known = list(itertools.takewhile(bool, (int(group, 16) for group in groups)))  # "::" may stand from the first 0 on
    return "".join(f"{group:x}:" for group in known), 0 < len(known) * _GROUP == network.prefixlen


def lies_in(text: t.Any, network: Network) -> bool:
    """Whether the address or network that a record keeps lies in *network*, or around it."""
    kept = network_of(text) if isinstance(text, str) else None
    return kept is not None and kept.version == network.version and kept.overlaps(network)
