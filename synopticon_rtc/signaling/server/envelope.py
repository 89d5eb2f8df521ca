"""What a server reads of a message from a client, and how it writes who sent it."""

import msgspec

from synopticon_rtc.errors import InvalidMessage

Fields = dict[str, msgspec.Raw]
Target = str | float | bool | None


class Envelope(msgspec.Struct, gc=False, rename="camel"):
    """The keys that matter to a relay; the decoder skips all others, and checks that they are JSON.

    It reads a key as every JSON reader does, so whatever spelling a client gives a ``sourceSession``, with escapes or
    several times, is seen here.
    """

    type: str
    target_session: Target = None
    source_session: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


# Values stay as they came, byte for byte. Keys are decoded and the last of several wins: one spelling of each remains.
_fields_decoder = msgspec.json.Decoder(Fields)
_type_decoder = msgspec.json.Decoder(str)
_target_decoder = msgspec.json.Decoder(Target)
_NULL = msgspec.Raw(b"null")

decode = msgspec.json.Decoder(Envelope).decode


def stamp(session: str) -> bytes:
    """Write a session as the last key of an object, to take the place of its closing brace."""
    return b',"sourceSession":%s}' % msgspec.json.encode(session)


def open_fields(data: bytes) -> tuple[str, Fields]:
    """Read the type and all fields of a message, exactly.

    Raises:
        InvalidMessage: It is no JSON object, or its type is no string.
    """
    try:
        fields = _fields_decoder.decode(data)
        return _type_decoder.decode(fields.get("type", _NULL)), fields
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidMessage(f"Not a message: {error}") from error


def target_of(fields: Fields) -> Target:
    """Read whom a message is for; what is neither text, number nor falsy is true: somebody, but no session."""
    try:
        target: Target = _target_decoder.decode(fields.get("targetSession", _NULL))
    except (msgspec.DecodeError, RecursionError):
        return True
    return target


def seal(fields: Fields, session: str) -> bytes:
    """Write the fields of a message, with its one and true source."""
    fields["sourceSession"] = msgspec.Raw(msgspec.json.encode(session))
    return msgspec.json.encode(fields)
