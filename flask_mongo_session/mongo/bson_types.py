"""How BSON is read and written, whatever the client was configured to do; dates as milliseconds and back."""

from __future__ import annotations

import datetime as dt
import typing as t

from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion

#: How documents are read and written, whatever the client was configured to do.
CODEC_OPTIONS: CodecOptions[dict[str, t.Any]] = CodecOptions(
    document_class=dict,
    tz_aware=True,
    tzinfo=dt.timezone.utc,
    uuid_representation=UuidRepresentation.STANDARD,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)

#: The same, but dates come without a time zone and mean UTC: making them aware takes the driver most of its time.
BARE_DATES: CodecOptions[dict[str, t.Any]] = CODEC_OPTIONS.with_options(tz_aware=False, tzinfo=None)

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
MILLISECOND = dt.timedelta(milliseconds=1)


def milliseconds(moment: dt.datetime) -> int:
    """UTC milliseconds since 1970, what BSON keeps of a date."""
    return (moment - EPOCH) // MILLISECOND


def moment(ms: float) -> dt.datetime:
    """The reverse of :func:`milliseconds`."""
    return EPOCH + int(ms) * MILLISECOND


def make_aware(document: dict[str, t.Any]) -> None:
    """Turn the dates that a document holds, not those inside its values, into aware ones (UTC), in place."""
    for name, value in document.items():
        if isinstance(value, dt.datetime):
            document[name] = value.combine(value, value.time(), dt.timezone.utc)  # a fifth of the time of replace()
