"""A pytest plugin for other libraries' test suites: every Flask application that they make keeps its sessions here.

Loaded by name (``-p install_everywhere``) into the process that runs such a suite. ``COMPAT_MONGODB_URI`` says where,
``COMPAT_CONFIG`` holds further settings as JSON.
"""

import functools
import json
import os

import flask
from flask.sessions import SecureCookieSessionInterface

from flask_mongo_session import MongoSession, MongoSessionInterface

URI = os.environ["COMPAT_MONGODB_URI"]  # now: some tests empty the environment
CONFIG = json.loads(os.environ["COMPAT_CONFIG"])

make_app = flask.Flask.__init__


@functools.wraps(make_app)
def make_app_with_our_sessions(app, *args, **kwargs):
    """Make the application as Flask does, then install the extension as its author would."""
    make_app(app, *args, **kwargs)
    theirs = type(app.session_interface)
    app.config.update(CONFIG, SESSION_MONGODB_URI=URI)
    MongoSession(app)
    if theirs is not SecureCookieSessionInterface:
        app.session_interface = with_policies_of(theirs, app.session_interface)


def with_policies_of(theirs, ours):
    """The interface that a test wrote for its application, with our sessions where it had Flask's."""
    overrides_policies = issubclass(theirs, SecureCookieSessionInterface)  # the cookie's name, say
    bases = (MongoSessionInterface, theirs) if overrides_policies else (theirs, MongoSessionInterface)
    return type(theirs.__name__, bases, {})(ours.store, ours.config)


flask.Flask.__init__ = make_app_with_our_sessions
