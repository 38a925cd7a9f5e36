"""The sentences about a settings file, as templates: what is wrong, and what to do about it.

The file is judged in English, for the daemon's log and `vendingd --check`. vendctl knows the
sentences again by these and says them in its own language, as those of `prose`. What has no
field stands where it is found (`config`, `config_rules`).
"""

from __future__ import annotations

from collections.abc import Mapping

WORDS: Mapping[str, tuple[str, str]] = {
    "missing": ("is missing", "add it"),
    "string_type": ("must be text", "put it in quotes"),
    "int_type": ("must be a whole number", "write it without quotes and without a point"),
    "int_from_float": ("must be a whole number", "write it without a point"),
    "float_type": ("must be a number", "write it without quotes"),
    "finite_number": ("must be a finite number", "write a plain number"),
    "bool_type": ("must be true or false", "write it without quotes, in small letters"),
    "tuple_type": ("must be a list", "write it in square brackets"),
    "model_type": ("must be a table", "write it as a table of its own, in brackets"),
    "greater_than": ("is too small", "write more than {gt}"),
    "greater_than_equal": ("is too small", "write at least {ge}"),
    "less_than_equal": ("is too large", "write at most {le}"),
    "literal_error": ("is not a possible value", "use one of {expected}"),
    "string_too_short": ("is empty", "give it a value, or remove the key"),
    "string_too_long": ("is too long", "at most {max_length} characters"),
    "value_error": ("{error}", "see the example file"),
}
"""pydantic's kind of error -> what is wrong, and the remedy."""

PATTERNS: Mapping[str, tuple[str, str]] = {
    "machine_no": ("must be eight ASCII digits", 'write it in quotes, like "16327129"'),
    "host": ("is no host name or address", "write a name or an address; the port has its own key"),
    "read_group": ("is no name of a Unix group", "write a name like vending"),
    "act_group": ("is no name of a Unix group", "write a name like vending-tech"),
}
NAMES: Mapping[str, tuple[str, str]] = {
    "board": ("is no name for a board", "use up to 32 letters, digits, - and _"),
    "cabinet": ("must be one capital letter", "its channels begin with it: A for A1, A2, …"),
}

UNKNOWN: Mapping[str, str] = {"key": "unknown key", "table": "unknown table"}
REMOVE = "remove it"
REMOVE_OF_KNOWN = "remove it; known: {names}"
OF_PROTOCOL = "remove it; it belongs to protocol {protocols}"
DID_YOU_MEAN = "did you mean {name}?"
SECRETS_STAY_OUT = "secrets stay out of this file: name a file by [mqtt] password_file"

WRITE_TABLE = "write [{name}] above its keys"
WRITE_TABLES = "write [[{name}]] above each"
USE_ONE_OF = "use one of: {names}"
OTHER_CABINET = "a channel of cabinet {name} must begin with {letter}"
RENAME_OR_MOVE = "write {channel}, or move the lane to cabinet {name}"
ABOVE_CAPACITY = "more than the lane's capacity of {capacity}"
WRITE_UP_TO = "write 0 to {capacity}"
FILE_UNREADABLE = "cannot be read: {why}"

FINDINGS: tuple[str, ...] = (
    *(
        text
        for table in (WORDS, PATTERNS, NAMES)
        for pair in table.values()
        for text in pair
        if text != "{error}"  # a sentence of a table's own, below
    ),
    *UNKNOWN.values(),
    REMOVE_OF_KNOWN,
    OF_PROTOCOL,
    REMOVE,
    DID_YOU_MEAN,
    SECRETS_STAY_OUT,
    WRITE_TABLES,
    WRITE_TABLE,
    USE_ONE_OF,
    OTHER_CABINET,
    RENAME_OR_MOVE,
    ABOVE_CAPACITY,
    WRITE_UP_TO,
    FILE_UNREADABLE,
    "must be a path in quotes",
    "must be a path",
    "must be tcp://host:port with a port of 1 to 65535",
    "is neither the path of a device nor tcp://host:port",
    "must be printable text",
    "{text} is not a channel: a capital letter and a number, like A1",
)
"""Halves of a finding. The narrower ones first."""

NESTED = "nested too deeply; no setting needs that"
TWICE = (
    "this key or table stands twice; keep one of them, or write [[…]] where several are meant, "
    "as [[cabinet]]"
)
NO_TOML = "this is not TOML: {what}; text needs quotes, tables their brackets"
NO_FILE = "is no file; name the settings file itself"
CANNOT_BE_READ = "cannot be read ({why}); check the path and its permissions"
TOO_LARGE = "larger than {bytes} bytes; this is no settings file"
NOT_UTF8 = "bytes that are not UTF-8; save the file as UTF-8 text"

OF_THE_FILE: tuple[str, ...] = (
    NESTED,
    TWICE,
    NO_TOML,
    NO_FILE,
    CANNOT_BE_READ,
    TOO_LARGE,
    NOT_UTF8,
)
"""Of the file as a whole: nothing else is said of it then."""
