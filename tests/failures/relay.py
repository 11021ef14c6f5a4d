"""A network between an application and its server, which delivers an update late or loses its answer."""

from __future__ import annotations

import contextlib
import re
import socket
import threading

#: How an update begins on the wire; the monitoring of the driver and all other commands pass.
UPDATE = b"\x02update\x00"
#: Seconds after which waiting for something is given up.
PATIENCE = 20.0


class Relay:
    """Passes bytes between its own port and that of a server.

    :meth:`hold` keeps the next update back until :meth:`deliver`, whatever its sender does meanwhile; :meth:`lose` lets
    the next update through and breaks the connection instead of passing its answer.
    """

    def __init__(self, port):
        self._server = ("127.0.0.1", port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._sockets, self._threads, self._wanted = [], [], None
        self._arrived, self._delivered, self._answered = (threading.Event() for _ in range(3))
        self._begin(self._accept)

    def close(self):
        """Break all connections; nothing of it is left running."""
        self._delivered.set()
        self._answered.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        with self._lock:
            sockets, threads = list(self._sockets), list(self._threads)
        for each in sockets:
            _break(each)
        for thread in threads:
            thread.join(PATIENCE)
        for each in sockets:
            each.close()

    def uri(self, uri):
        """The same address, by way of this relay."""
        return re.sub(r"(?<=127\.0\.0\.1:)\d+", str(self._listening.getsockname()[1]), uri)

    def hold(self):
        """The next update does not arrive."""
        self._expect("hold")

    def lose(self):
        """The next update is carried out, and its answer gets lost."""
        self._expect("lose")

    def wait_held(self):
        """Return when the update that is kept back has been sent."""
        assert self._arrived.wait(PATIENCE), "no update was sent"

    def deliver(self):
        """Let it arrive; returns when the server has answered."""
        self._delivered.set()
        self.wait_answered()

    def wait_answered(self):
        """Return when the server has answered that update."""
        assert self._answered.wait(PATIENCE), "the server did not answer"

    def _expect(self, what):
        for event in (self._arrived, self._delivered, self._answered):
            event.clear()
        self._wanted = what

    def _take(self, data):
        """What is to happen to these bytes, if they are the update that was meant."""
        with self._lock:
            if self._wanted is None or UPDATE not in data[:64]:
                return None
            what, self._wanted = self._wanted, None
            return what

    def _begin(self, target, *arguments):
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._server)
                with self._lock:
                    self._sockets += [client, server]
                special = {}
                self._begin(self._forth, client, server, special)
                self._begin(self._back, server, client, special)

    def _forth(self, client, server, special):
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 20):
                what = special["what"] = self._take(data)
                if what == "hold":
                    self._arrived.set()
                    self._delivered.wait()
                server.sendall(data)
        if special.get("what") is not None:
            self._answered.wait(PATIENCE)  # the client may be gone, and the server is to be heard all the same
        _break(server)

    def _back(self, server, client, special):
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 20):
                what = special.get("what")
                if what is not None:
                    self._answered.set()
                if what == "lose":
                    break
                client.sendall(data)
        _break(client)


def _break(connection):
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
