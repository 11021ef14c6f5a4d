"""Why the database cannot be reached, in words for the log: host, port and what is wrong there."""

from __future__ import annotations

import re
import typing as t

from pymongo.errors import DuplicateKeyError, OperationFailure

if t.TYPE_CHECKING:
    import pymongo
    from pymongo.topology_description import TopologyDescription

#: What an error of the driver, of OpenSSL or of the system says, and what that means. The first that fits.
_MEANINGS = (
    ("connection refused", r"Connection refused|actively refused"),
    (
        "name not resolved",
        r"not known|name resolution|getaddrinfo|DNS|resolution lifetime|not a valid hostname|No address associated",
    ),
    (
        "certificate of an unknown authority (tlsCAFile says whom to trust)",
        r"self.signed certificate|unable to get (local )?issuer certificate",
    ),
    ("certificate not accepted", r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|Hostname mismatch"),
    ("TLS failed", r"SSL|TLS"),
    ("wrong replica set name", r"replica set named|No replica set members"),
    ("connection closed (by a server that wants TLS, perhaps)", r": connection closed"),
    ("no answer in time", r"timed out|timeout"),
)
#: What the driver adds to its messages: settings, the whole topology, the server's answer.
_ADDITIONS = re.compile(r"(?s) \(configured timeouts:[^)]*\)|, (Timeout|Topology Description|full error): .*")


def reason(error: BaseException) -> str:
    """What went wrong without what was sent: a server's message may quote a value."""
    if isinstance(error, OperationFailure):
        return _refusal(error)

    text = _plain(error)
    meaning = next((meaning for meaning, pattern in _MEANINGS if re.search(pattern, text)), None)
    return f"{meaning}: {text}" if meaning else text


def seeds(client: pymongo.MongoClient[t.Any]) -> str:
    """The servers that *client* was told of."""
    settings = client._topology_settings  # noqa: SLF001 - asked for names alone
    return ", ".join(_address(address) for address in sorted(settings.seeds, key=str))


def unreachable(client: pymongo.MongoClient[t.Any]) -> str:
    """What the driver knows of each server that *client* talks to."""
    topology: TopologyDescription = client.topology_description
    servers = topology.server_descriptions().values()
    if not servers:  # the driver forgets those that belong to another replica set
        name = client._topology_settings.replica_set_name  # noqa: SLF001 - as above
        return f"{seeds(client)}: no member of a replica set named {name!r}"

    return "; ".join(_server(server.address, server.error) for server in servers)


def _server(address: tuple[str, int | None], error: BaseException | None) -> str:
    where, what = _address(address), "no answer yet" if error is None else _plain(error)
    return what if where in what else f"{where}: {what}"


def _plain(error: BaseException) -> str:
    return _ADDITIONS.sub("", str(error))


def _address(address: tuple[str, int | None]) -> str:
    host, port = address
    return host if port is None else f"{host}:{port}"


def _refusal(error: OperationFailure) -> str:
    details = error.details or {}
    if isinstance(error, DuplicateKeyError) and details.get("keyPattern"):
        return f"a unique index on {', '.join(details['keyPattern'])}, which sessions do not expect"

    return f"code {error.code} ({details.get('codeName', 'unknown')})"
