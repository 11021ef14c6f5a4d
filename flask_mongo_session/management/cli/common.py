"""What the commands share: the way to the extension, errors in one line, ids by their beginning."""

from __future__ import annotations

import functools
import typing as t

import click
from flask import current_app
from flask.cli import with_appcontext
from pymongo.errors import PyMongoError
from werkzeug.exceptions import ServiceUnavailable

from flask_mongo_session.exceptions import SetupError

if t.TYPE_CHECKING:
    from flask_mongo_session.extension import MongoSession

Function = t.TypeVar("Function", bound=t.Callable[..., None])

#: An id may begin with a dash; it is no option then.
_ANY_ARGUMENT = {"ignore_unknown_options": True}
json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
#: Characters of an id that may stand for the whole of it, and sessions that are named where they fit several.
_SHORTEST, _CANDIDATES = 4, 5


def command(name: str) -> t.Callable[[t.Callable[..., None]], click.Command]:
    """A command called *name* in an application context; the system's failures are one line and exit code 1."""

    def decorate(function: t.Callable[..., None]) -> click.Command:
        return click.command(name, context_settings=_ANY_ARGUMENT)(with_appcontext(_reporting(function)))

    return decorate


def extension() -> MongoSession:
    """The application's extension."""
    return t.cast("MongoSession", current_app.extensions["mongo_session"].extension)


def failure(message: str) -> click.ClickException:
    """An error that also says how the command is to be typed."""
    return click.ClickException(f"{message}\n{click.get_current_context().get_usage()}")


def whole_id(beginning: str) -> str:
    """The id of the one live session whose id is, or begins with, *beginning*; an error names what else it may be."""
    found = [info.sid for info in extension().with_prefix(beginning, _CANDIDATES + 1)]
    if beginning in found:
        return beginning
    if not found:
        raise failure(f"There is no live session {beginning!r}; 'flask sessions list' shows those that there are.")
    if len(beginning) < _SHORTEST:
        raise failure(f"{beginning!r} is too short: give {_SHORTEST} characters of the id, or more.")
    if len(found) > 1:
        more = " …" if len(found) > _CANDIDATES else ""
        raise failure(f"{beginning!r} may be any of {', '.join(found[:_CANDIDATES])}{more}")

    return found[0]


def one_line(error: Exception) -> Exception:
    """The system's failures as one line and exit code 1; a defect keeps its traceback."""
    if isinstance(error, SetupError):
        return click.ClickException(str(error))
    if isinstance(error, (ServiceUnavailable, PyMongoError)):
        return click.ClickException(unavailable(error))

    return error


def unavailable(error: Exception) -> str:
    """What is said of a database that does not answer."""
    reason = str(error.__cause__ or error).partition(", Timeout: ")[0].partition(", Topology Description")[0]
    return f"The session store is unavailable: {' '.join(reason.split())}"


def _reporting(function: Function) -> Function:
    @functools.wraps(function)
    def reporting(*args: t.Any, **kwargs: t.Any) -> None:
        try:
            function(*args, **kwargs)
        except click.exceptions.Exit:
            raise
        except Exception as error:
            raise one_line(error) from error

    return t.cast("Function", reporting)
