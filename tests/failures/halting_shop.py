"""Applications in processes of their own, each of which stops at a chosen command and tells whoever started it.

Run as a program with the path of a socket: everyone who connects gets a process, forked from one that has imported
everything. Both sides speak in lines of JSON; :mod:`halting` is the other side.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys

import pymongo
from flask import Flask
from plain_shop import add_views
from pymongo import monitoring

from flask_mongo_session import MongoSession
from flask_mongo_session.session import unit_of_work


class Halting(monitoring.CommandListener):
    """Counts commands; at the one that was named it says so, and waits until it is told to go on."""

    def __init__(self, talk):
        self._talk = talk
        self.names = []
        #: The side, ``before`` or ``after``, and the number of the command; none while nothing is counted.
        self.halt = None

    def started(self, event):
        if self.halt is not None:
            self.names.append(event.command_name)
            self._reached("before")

    def succeeded(self, event):
        if self.halt is not None:
            self._reached("after")

    failed = succeeded

    def _reached(self, side):
        if self.halt == [side, len(self.names)]:
            say(self._talk, halted=self.names[-1])
            self._talk.readline()


def say(talk, **message):
    talk.write(json.dumps(message) + "\n")
    talk.flush()


def serve(talk):
    """Answer one request, as told by the first line."""
    job = json.loads(talk.readline())
    listener = Halting(talk)
    app = Flask("halting")
    app.config.update(job["config"], SESSION_MONGODB=pymongo.MongoClient(job["uri"], event_listeners=[listener]))
    MongoSession(app)
    add_views(app)
    app.extensions["mongo_session"].store.now()  # connected, and the clock is known
    tell_of_new_tokens(talk)

    browser = app.test_client()
    browser.set_cookie("session", job["cookie"])
    listener.halt = job["halt"]
    response = browser.get(job["path"])
    listener.halt = None
    cookie = browser.get_cookie("session")
    say(talk, status=response.status_code, cookie=cookie and cookie.value, commands=listener.names)
    talk.readline()  # until whoever asked is done with this process


def tell_of_new_tokens(talk):
    """Whoever started this process may use a token that no browser ever got."""
    make = unit_of_work.new_token

    def new_token():
        token = make()
        say(talk, token=token)
        return token

    unit_of_work.new_token = new_token


def main(path):
    """Fork a process for everyone who connects, until the standard input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(128)
        print("ready", flush=True)  # noqa: T201 - the one who started it waits for this line
        while listening in select.select([listening, sys.stdin], [], [])[0]:
            connection, _ = listening.accept()
            with connection:
                if not os.fork():
                    listening.close()
                    with connection.makefile("rw") as talk:
                        say(talk, pid=os.getpid())
                        serve(talk)
                    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
