"""One event a line, whatever is in it; never a secret."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import logs
from controller.errors import BoardOffline
from controller.model import OrderKey, Outcome, UnitRef

ROOT = Path(__file__).parents[2]
FIELD = re.compile(r'([A-Za-z0-9_.]+)=("(?:[^"\\]|\\.)*"|[^\s"=]+)')


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the room `test` logs, formatted for journald."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.LineFormatter(journal=True))
    logger = logging.getLogger("vending.test")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield stream
    logger.removeHandler(handler)


LOG = logging.getLogger("vending.test")


def fields_of(line: str) -> dict[str, str]:
    """The fields of a line, read strictly: nothing may be left over."""
    event, _, rest = line.strip().partition(" ")
    assert re.fullmatch(r"<[3-7]>[a-z_]+", event)
    assert FIELD.sub("", rest).strip() == ""
    return dict(FIELD.findall(rest))


def test_an_order_is_followed_by_its_id(lines: io.StringIO) -> None:
    key = OrderKey(1111111, "1733200000000017")
    logs.log(LOG, logging.INFO, "unit_finished", order=key, unit=2, outcome=Outcome.DELIVERED)
    logs.log(LOG, logging.INFO, "unit_started", unit=UnitRef(OrderKey(7), 1))
    first, second = lines.getvalue().splitlines()
    assert first == (
        "<6>unit_finished room=test order=1111111/1733200000000017 unit=2 outcome=delivered"
    )
    assert second == "<6>unit_started room=test unit=7#1"


def test_the_convention_of_the_standard_library(lines: io.StringIO) -> None:
    LOG.warning("eye_blocked", extra={"fields": {"cabinet": "A", "waited_s": 9.9996, "ok": False}})
    assert lines.getvalue() == "<4>eye_blocked room=test cabinet=A waited_s=10 ok=false\n"


@pytest.mark.parametrize(
    ("level", "number"),
    [(10, 7), (20, 6), (25, 5), (30, 4), (40, 3), (50, 3)],
)
def test_priorities(level: int, number: int) -> None:
    assert logs.priority(level) == number


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain-text_1.0/x:y#2", "plain-text_1.0/x:y#2"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "x"\\', '"say \\"x\\"\\\\"'),
        ("line\nevent forged=1", '"line\\nevent forged=1"'),
        ("\x1b[31m\u2028\u202e", '"\\x1b[31m\\u2028\\u202e"'),
        ("缺货", '"缺货"'),
        (None, "null"),
        (b"\xfa\xfb", "fafb"),
        (0.12345, "0.123"),
        (float("inf"), "inf"),
        ({"a": 1, "b": [1, 2]}, '"{\\"a\\":1,\\"b\\":[1,2]}"'),
        (BoardOffline("cable out"), '"BoardOffline: cable out"'),
    ],
)
def test_values(value: object, shown: str) -> None:
    assert logs.rendered(value) == shown


def test_values_are_cut() -> None:
    assert len(logs.rendered("x" * 100_000)) == logs.LONGEST_VALUE + len('""')
    assert len(logs.rendered(b"x" * 100_000)) <= logs.LONGEST_VALUE + len('""')
    deep: list[object] = []
    for _ in range(10_000):
        deep = [deep]
    assert len(logs.rendered(deep)) < 100


def test_secrets_are_hidden_at_any_depth(lines: io.StringIO) -> None:
    logs.log(
        LOG,
        logging.INFO,
        "settings",
        Password="hunter2",
        client_secret="hunter2",
        key_material=b"hunter2",
        mqtt={"username": "u", "tls": [{"password": "hunter2"}]},
    )
    line = lines.getvalue()
    assert "hunter2" not in line
    assert b"hunter2".hex() not in line
    assert fields_of(line)["Password"] == "(hidden)"


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_a_value_without_words_costs_nothing(lines: io.StringIO) -> None:
    logs.log(LOG, logging.INFO, "odd", value=Unprintable())
    assert fields_of(lines.getvalue())["value"] == '"<Unprintable>"'


def test_a_librarys_message_is_a_field(lines: io.StringIO) -> None:
    LOG.error("Task %s was destroyed\nbut it is pending", "x")
    (line,) = lines.getvalue().splitlines()
    assert line == '<3>message room=test text="Task x was destroyed\\nbut it is pending"'
    wrong = logging.LogRecord("asyncio", logging.ERROR, "", 0, "wrong %d", ("format",), None)
    assert 'room=asyncio text="wrong %d"' in logs.LineFormatter(journal=False).format(wrong)


def test_an_exception_is_one_line_with_cause_and_place(lines: io.StringIO) -> None:
    def deep() -> None:
        try:
            raise OSError("no\nspace")  # noqa: TRY301  a cause is wanted
        except OSError as error:
            raise BoardOffline("gone") from error

    try:
        deep()
    except BoardOffline:
        LOG.exception("board_lost", extra={"fields": {"board": "main"}})
    (line,) = lines.getvalue().splitlines()
    found = fields_of(line)
    assert found["error"] == '"BoardOffline: gone"'
    assert found["cause"] == '"OSError: no\\nspace"'
    assert re.fullmatch(r'"test_logs\.py:\d+ in deep < test_logs\.py:\d+ in .*"', found["at"])


ANY = st.one_of(
    st.text(),
    st.binary(max_size=20),
    st.floats(),
    st.dictionaries(st.text(), st.text(), max_size=3),
    st.lists(st.integers(), max_size=3),
)


@given(st.dictionaries(st.text(max_size=10), ANY, max_size=5), st.text(max_size=20))
def test_no_value_ends_its_line_or_forges_a_field(fields: dict[str, object], message: str) -> None:
    """P14: what a peer sends can be logged without harm."""
    record = logging.LogRecord("vending.test", logging.INFO, "", 0, message, None, None)
    record.fields = fields
    line = logs.LineFormatter(journal=True).format(record)
    assert line.isprintable()
    found = FIELD.findall(line.partition(" ")[2])
    expected = 1 + (0 if line.startswith(f"<6>{message} ") else 1) + len(fields)
    assert len(found) == expected
    assert FIELD.sub("", line.partition(" ")[2]).strip() == ""


def test_the_journal_is_known_by_device_and_inode(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        status = os.fstat(stream.fileno())
        ours = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert logs.is_journal(stream, ours)
        assert not logs.is_journal(stream, {"JOURNAL_STREAM": f"{status.st_dev}:1"})
        assert not logs.is_journal(stream, {})
    assert not logs.is_journal(io.StringIO(), ours)


UNCAUGHT = """
import logging, threading
from controller import logs
logs.configure()
logging.getLogger("vending.test").debug("not_shown")
logging.getLogger("other").info("not shown")
def fail():
    raise ValueError("in a thread")
thread = threading.Thread(target=fail, name="worker")
thread.start()
thread.join()
raise ExceptionGroup("tasks", [RuntimeError("first\\nline")])
"""


def test_what_nobody_caught_is_one_line_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNCAUGHT], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 1
    in_thread, at_last = done.stderr.splitlines()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z critical uncaught room=daemon "
    assert re.match(stamp + r'thread=worker error="ValueError: in a thread" at=', in_thread)
    assert re.match(stamp + "error=", at_last)
    assert 'cause="RuntimeError: first\\nline"' in at_last
