"""What the log says of an outage, names that do not resolve, and what is asked again, how often."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import logging
import socket
import ssl
import threading
import time

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pymongo
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pymongo import monitoring
from waiting import eventually

NOWHERE = "mongodb://127.0.0.1:9/?directConnection=true"
UNRESOLVED = "mongodb://db.shop.invalid:27099/?directConnection=true"
SRV = "mongodb+srv://cluster.shop.example/?tls=false"
BREAKER = "flask_mongo_session.mongo.circuit_breaker"


def self_signed(folder):
    """The file of a certificate and its key for the loopback address, signed by nobody who is known."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.timezone.utc)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1))
    certificate = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "self-signed.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(serialization.Encoding.PEM, *plain)
    )
    return file


@pytest.fixture
def stranger(tmp_path):
    """The port of somebody who shows a certificate that nobody trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            with caller:
                caller.settimeout(5)
                with contextlib.suppress(OSError):
                    context.wrap_socket(caller, server_side=True).close()

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


class Names(threading.Thread):
    """A name server: knows nothing, says nothing, or sends everybody who asks for the cluster to one port."""

    def __init__(self):
        super().__init__(daemon=True)
        self.asked = 0
        self.silent = False
        self.port_of_cluster = None
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    def run(self):
        while True:
            wire, caller = self._socket.recvfrom(4096)
            if not wire:
                return
            self.asked += 1
            if not self.silent:
                self._socket.sendto(self._answer(dns.message.from_wire(wire)).to_wire(), caller)

    def _answer(self, query):
        response, question = dns.message.make_response(query), query.question[0]
        response.flags |= dns.flags.RA
        if self.port_of_cluster is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif question.rdtype == dns.rdatatype.SRV:
            where = f"0 0 {self.port_of_cluster} node.shop.example."
            response.answer.append(dns.rrset.from_text(question.name, 1, "IN", "SRV", where))
        return response

    def close(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", ("127.0.0.1", self.port))
        self.join(10)
        self._socket.close()


@pytest.fixture
def names(monkeypatch):
    """The name server that this process asks."""
    server, resolver = Names(), dns.resolver.Resolver(configure=False)
    server.start()
    resolver.nameservers, resolver.port = ["127.0.0.1"], server.port
    monkeypatch.setattr(dns.resolver, "default_resolver", resolver)
    yield server
    server.close()


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.name == BREAKER]


def address_of(kind, server, stranger):
    host = f"127.0.0.1:{server.port}"
    return {
        "refused": (NOWHERE, "connection refused: 127.0.0.1:9: "),
        "unresolved": (UNRESOLVED, "name not resolved: db.shop.invalid:27099: "),
        "TLS": (f"{server.uri}&tls=true", f"TLS failed: SSL handshake failed: {host}: "),
        "wrong set": (f"{server.uri}&replicaSet=other", f"wrong replica set name: {host}: "),
        "a member of no set": (
            f"mongodb://{host}/?replicaSet=other",
            f"wrong replica set name: {host}: no member of a replica set named 'other'",
        ),
        "unknown CA": (
            f"mongodb://127.0.0.1:{stranger}/?directConnection=true&tls=true",
            f"certificate of an unknown authority (tlsCAFile says whom to trust): 127.0.0.1:{stranger}: ",
        ),
    }[kind]


@pytest.mark.parametrize("kind", ["refused", "unresolved", "TLS", "wrong set", "a member of no set", "unknown CA"])
def test_the_log_names_host_port_and_reason(make_shop, visitor, server, stranger, caplog, *, kind):
    """One line for an outage of many requests: which server, and what is wrong there."""
    caplog.set_level(logging.INFO, "flask_mongo_session")
    uri, wanted = address_of(kind, server, stranger)
    browser = visitor(make_shop(uri, SESSION_MONGODB_TIMEOUT=0.3))

    assert {browser.get("/read/kept").status_code for _ in range(6)} == {503}

    [line] = said(caplog)
    assert line.startswith(f"The session store is unavailable: ServerSelectionTimeoutError: {wanted}"), line
    assert "Topology" not in line
    assert server.uri.partition("@")[0] not in line


def test_a_frozen_server_is_named_as_well(make_shop, uri, server, caplog):
    """One that holds a connection and says nothing: the driver's own error, without its settings."""
    caplog.set_level(logging.INFO, "flask_mongo_session")
    browser = make_shop(uri).test_client()
    eventually(
        lambda: browser.get("/read/kept").status_code == browser.get("/write/kept/1").status_code == 200, 10, "it"
    )
    caplog.clear()
    server.pause()
    assert browser.get("/read/kept").status_code == 503
    server.resume()

    [line] = said(caplog)
    assert f": no answer in time: 127.0.0.1:{server.port}: timed out" in line
    assert "configured" not in line


@pytest.mark.parametrize("silent", [False, True], ids=["unknown", "no answer"])
@pytest.mark.parametrize("path", ["/read/kept", "/login/7"])
def test_srv_names_that_do_not_resolve(make_shop, visitor, names, timed, caplog, *, path, silent):
    """A 503 within the time limit, one line in the log; the name server is not asked for each request."""
    names.silent = silent
    browser = visitor(make_shop(SRV.replace("cluster", f"{path[1:3]}-{silent}"), SESSION_MONGODB_TIMEOUT=0.3))
    answers = [timed(browser.get, path)]
    asked = names.asked
    answers += [timed(browser.get, path) for _ in range(9)]

    assert {response.status_code for response, _ in answers} == {503}
    assert max(seconds for _, seconds in answers) < 0.3 + 0.25
    assert asked > 0
    assert names.asked <= 4 * asked
    [line] = said(caplog)
    assert "name not resolved" in line
    assert "shop.example" in line


def test_srv_names_that_resolve_later(make_shop, visitor, names, server, monkeypatch):
    """Once they are known the application goes on, without a restart."""
    system = socket.getaddrinfo

    def resolve(host, *arguments, **options):
        return system("127.0.0.1" if host == "node.shop.example" else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    login = server.uri.removeprefix("mongodb://").partition("@")[0]
    browser = visitor(make_shop(f"mongodb+srv://{login}@cluster.shop.example/srv?tls=false&authSource=admin"))
    assert browser.get("/write/kept/1").status_code == 503

    names.port_of_cluster = server.port
    until = time.monotonic() + 10
    while browser.get("/write/kept/1").status_code != 200:
        assert time.monotonic() < until
        time.sleep(0.05)

    assert browser.get("/read/kept").text == "1"


class Finds(monitoring.CommandListener):
    def __init__(self):
        self.count = 0

    def started(self, event):
        self.count += event.command_name == "find"

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


def test_retries_are_paced(make_shop, uri, failing):
    """A read that fails again and again is sent a handful of times in a second, not hundreds of times."""
    finds = Finds()
    with pymongo.MongoClient(uri, event_listeners=[finds]) as client:
        browser = make_shop(None, SESSION_MONGODB=client).test_client()
        browser.get("/write/kept/1")
        with failing("find", errorCode=262):
            assert browser.get("/read/kept").status_code == 503

    assert 3 <= finds.count <= 8
