"""Where two things meet, and what nobody should send: a close and a command, a page of two
journals, a full disk, a machine that speaks for another."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from platform_sim import codes
from platform_sim.codes import ApiError
from platform_sim.store import Store
from tests.platform.conftest import MACHINE_NO, Platform

# ---------------------------------------------------------------------- closing while delivering


async def delivering(platform: Platform, *products: tuple[int, int]) -> int:
    """A paid order whose lines were all asked for: its id."""
    order_id, records = await platform.merchant.paid_order("t1", *products)
    for record in records:
        assert (await platform.merchant.deliver(order_id, record)).code == 0
    return order_id


async def test_what_a_closed_order_still_has_under_way_is_not_for_sale(platform: Platform) -> None:
    order_id = await delivering(platform, (221, 3))
    (command,) = await platform.commands()
    await platform.result(command, 1, "delivered")
    await platform.merchant.update(order_id, 2)
    await platform.says("inventory", lanes=[{"channel": "B1", "stock": 7, "health": "ok"}])
    assert await platform.merchant.stock(221) == 5, "two of the seven may still come out"
    await platform.result(command, 2, "not_delivered", "cancelled")
    await platform.result(command, 3, "not_delivered", "cancelled")
    assert await platform.merchant.stock(221) == 7


async def test_a_command_that_has_not_left_does_not_leave_after_the_close(
    platform: Platform,
) -> None:
    """The broker was away; back again, it would get the dispense first and then its cancel."""
    order_id = await delivering(platform, (221, 2))
    await platform.merchant.update(order_id, 2)
    outbox = await platform.books.next_commands(10)
    assert [command.leaf for command in outbox] == ["cancel"]
    cancel = json.loads(outbox[0].payload)
    # The machine never saw the order, and promises to refuse it.
    await platform.order_word(cancel, "cancelled", "unknown_order", "no")
    (told,) = await platform.callbacks()
    assert (told["deliver_status"], told["delivered"], told["timed_out"]) == ("0", 0, 0)
    assert await platform.merchant.stock(221) == 8
    assert (await platform.merchant.query(order_id))["records"][0]["status"] == "IS_REFUND"


async def test_a_machine_that_lost_its_memory_promises_nothing(platform: Platform) -> None:
    order_id = await delivering(platform, (221, 1))
    await platform.commands()
    await platform.merchant.update(order_id, 2)
    (cancel,) = await platform.commands("cancel")
    await platform.order_word(cancel, "cancelled", "unknown_order", "unknown")
    assert await platform.callbacks() == []
    assert await platform.merchant.stock(221) == 7


async def test_an_order_closed_again_is_cancelled_once(platform: Platform) -> None:
    order_id = await delivering(platform, (221, 1))
    for _ in range(3):
        assert (await platform.merchant.update(order_id, 2)).code == 0
    assert len(await platform.commands("cancel")) == 1


# ---------------------------------------------------------------------- the machine's own count


@pytest.mark.parametrize(
    ("told", "counts"),
    [
        ([("delivered", "10")], [4]),
        ([("not_delivered", "10")], [5]),
        ([("unknown", "10")], [4]),
        ([("unknown", "10"), ("delivered", "20")], [4, 4]),
        ([("unknown", "10"), ("not_delivered", "20")], [4, 5]),
        ([("not_delivered", "10"), ("delivered", "20")], [5, 4]),
    ],
)
@pytest.mark.parametrize("counted_first", [True, False])
async def test_a_count_and_a_result_may_come_in_either_order(
    platform: Platform, told: list[tuple[str, str]], counts: list[int], *, counted_first: bool
) -> None:
    """After an outage a machine's inventory is there before the results that it counts already."""

    async def count(stock: int, at: str) -> None:
        lanes = [{"channel": "B1", "stock": stock, "health": "ok"}]
        await platform.says("inventory", lanes=lanes, at=f"2026-11-23T09:30:{at}.500Z")

    await count(5, "00")
    await delivering(platform, (221, 1))
    (command,) = await platform.commands()
    assert await platform.merchant.stock(221) == 4
    for revision, ((outcome, at), stock) in enumerate(zip(told, counts, strict=True), start=1):
        if counted_first:
            await count(stock, at)
        finished = f"2026-11-23T09:30:{at}.020Z"
        await platform.result(command, 1, outcome, revision=revision, finished_at=finished)
        assert await platform.merchant.stock(221) == stock
        if not counted_first:
            await count(stock, at)
            assert await platform.merchant.stock(221) == stock


# ---------------------------------------------------------------------- what machines say


UNBOOKABLE = [
    ("state", b'{"mode":"\xed\xa0\x80","online":true}'),
    ("state", '{"mode":"\\ud800","online":true}'.encode("utf-16")),
    ("inventory", b'{"lanes":[{"channel":"B1","stock":-1000000000000000000000000000000}]}'),
    ("response/results", b'{"code":"ok","request_id":"gap-%s-1","data":{}}' % (b"9" * 60)),
]


@pytest.mark.parametrize(("leaf", "payload"), UNBOOKABLE)
async def test_what_no_store_can_hold_is_counted(
    platform: Platform, leaf: str, payload: bytes
) -> None:
    await platform.books.book(MACHINE_NO, leaf, payload)
    assert 0 <= await platform.merchant.stock(221) <= 8


async def test_a_page_with_a_number_that_no_store_can_hold(platform: Platform) -> None:
    await platform.says("order", **word(1))
    await platform.says("order", **word(3))
    huge = {"journal": platform.journal, "seq": 10**30}
    await page(platform, [("event", huge)])
    assert [row["upto"] for row in await platform.sql("SELECT upto FROM journal")] == [1]


def word(seq: int, journal: int = 1_763_800_000, status: str = "accepted") -> dict[str, Any]:
    """An `order` of another backend's: it is numbered like ours."""
    return {
        "journal": journal,
        "seq": seq,
        "order_id": 5,
        "delivery_id": "x",
        "status": status,
        "command_executed": "unknown",
    }


async def page(
    platform: Platform, told: list[tuple[str, dict[str, Any]]], after: int = 1, **following: Any
) -> None:
    await platform.says(
        "response/results",
        request_id=f"gap-{platform.journal}-{after}",
        code="ok",
        data={
            "next": following or None,
            "topics": [leaf for leaf, _ in told],
            "messages": [message for _, message in told],
        },
    )


async def test_a_word_that_cannot_be_read_hides_no_other(platform: Platform) -> None:
    """A newer machine has a status that we do not know: what stands behind it is booked."""
    await delivering(platform, (221, 1))
    (command,) = await platform.commands()
    await platform.says("order", **word(1))
    await platform.says("order", **word(4))
    result = {
        "journal": platform.journal,
        "seq": 3,
        "order_id": command["order_id"],
        "delivery_id": command["delivery_id"],
        "unit": 1,
        "revision": 1,
        "outcome": "delivered",
    }
    await platform.after(4)
    assert len(await platform.commands("request/results")) == 1
    await page(platform, [("order", word(2, status="paused")), ("result", result)])
    (told,) = await platform.callbacks()
    assert told["deliver_status"] == "1"
    assert [tuple(row) for row in await platform.sql("SELECT upto, ask_at FROM journal")] == [
        (4, None)
    ]


async def test_a_word_that_cannot_be_read_is_no_gap(platform: Platform) -> None:
    for seq, status in ((1, "accepted"), (2, "paused"), (3, "accepted")):
        await platform.says("order", **word(seq, status=status))
    await platform.after(4)
    assert await platform.commands("request/results") == []


async def test_a_page_of_two_journals_ends_the_older_one_s_gap(platform: Platform) -> None:
    """Pruned up to 50 in one journal, and the page goes on into the next."""
    for seq in (1, 52):
        await platform.says("order", **word(seq))
    later = platform.journal + 1000
    await platform.after(4)
    await platform.commands("request/results")
    told = [("order", word(51)), ("order", word(52)), ("order", word(1, later))]
    await page(platform, told, journal=later, seq=1)
    rows = await platform.sql("SELECT journal, upto, ask_at FROM journal ORDER BY journal")
    assert [tuple(row) for row in rows] == [(platform.journal, 52, None), (later, 1, None)]
    assert await platform.commands("request/results") == []


async def test_a_page_that_brings_nothing_new_is_not_asked_for_at_once_again(
    platform: Platform,
) -> None:
    for seq in (1, 9):
        await platform.says("order", **word(seq))
    await platform.after(4)
    assert len(await platform.commands("request/results")) == 1
    await page(platform, [], journal=platform.journal, seq=1)
    assert await platform.commands("request/results") == [], "machine and platform in a circle"


async def test_no_machine_answers_for_another(platform: Platform) -> None:
    answer = await platform.merchant.signed(
        "/deliveries/debug",
        method="device.delivery.put",
        channel_name="B1",
        notify_url="http://127.0.0.1:9/test",
    )
    said = {"request_id": answer.data["delivery_id"], "code": "refused", "data": {}}
    await platform.books.book("16327130", "response/lane.test", json.dumps(said).encode())
    assert await platform.callbacks() == []
    await platform.says("response/lane.test", **said)
    assert len(await platform.callbacks()) == 1


# ---------------------------------------------------------------------- what merchants send


async def test_a_name_of_five_thousand_digits_is_no_channel(platform: Platform) -> None:
    answer = await platform.merchant.signed(
        "/deliveries/debug",
        method="device.delivery.put",
        channel_name="B" + "1" * 5000,
        notify_url="http://127.0.0.1:9/test",
    )
    assert answer.code == 80002


@pytest.mark.parametrize("name", ["x%0d%0aSet-Cookie:%20a=b", "%00", "%0a"])
async def test_control_characters_in_a_path_are_answered(platform: Platform, name: str) -> None:
    host, port = platform.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = platform.merchant.sealed()
    lines = [
        f"POST /api/openapi/v1/deliveries/{name} HTTP/1.1",
        "Host: platform",
        "Connection: close",
        *(f"{key}: {value}" for key, value in platform.merchant.headers.items()),
        f"Content-Length: {len(body)}",
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    answer = await reader.read()
    writer.close()
    head, _, told = answer.partition(b"\r\n\r\n")
    assert json.loads(told)["code"] == 80002
    assert b"\nSet-Cookie" not in head


async def test_a_path_with_a_slash_too_many_is_not_there(platform: Platform) -> None:
    assert (await platform.merchant.plain("/orders/", b"{}")).code == 404


HEAD = "POST /api/openapi/v1/orders HTTP/1.1\r\nHost: platform\r\n"


async def held(platform: Platform, said: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = platform.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(said.encode())
    return reader, writer


async def test_who_only_holds_connections_keeps_nobody_out(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a bound their files are gone, and with them the callbacks' and the broker's."""
    monkeypatch.setattr("platform_sim.main.HEAD_S", 0.2)
    monkeypatch.setattr("platform_sim.main.MOST_CONNECTIONS", 3)
    monkeypatch.setattr("platform_sim.api.BODY_S", 0.2)
    headers = "".join(f"{name}: {value}\r\n" for name, value in platform.merchant.headers.items())
    slow = [
        await held(platform, said)
        for said in ("", HEAD, f"{HEAD}{headers}Content-Length: 9\r\n\r\n{{")
    ]
    assert [await reader.read() for reader, _ in slow[:2]] == [b"", b""]
    assert (await slow[2][0].readline()).startswith(b"HTTP/1.1 400 ")
    assert (await platform.merchant.plain("/ping")).data == "pong"
    crowd = [await held(platform, "") for _ in range(5)]
    with contextlib.suppress(ConnectionError):
        assert await crowd[-1][0].read() == b""
    for _reader, writer in (*slow, *crowd):
        writer.close()


# ---------------------------------------------------------------------- the disk


async def test_a_refusal_that_rests_on_what_was_not_written_is_none(tmp_path: Path) -> None:
    """Two orders in one commit, the second refused because of the first; and the commit fails."""
    store = Store(tmp_path / "p.db")
    together = threading.Event()

    def insert(tx: sqlite3.Connection) -> None:
        if tx.execute("SELECT 1 FROM counter").fetchone():
            raise ApiError(codes.TRADE_EXISTS)
        tx.execute("INSERT INTO counter VALUES ('order', 1)")

    def spoil(tx: sqlite3.Connection) -> None:
        tx.execute("PRAGMA defer_foreign_keys = ON")  # it is the commit that fails
        tx.execute("INSERT INTO cabinet VALUES ('nobody', 'A', 'belt', 1)")

    try:
        first = asyncio.create_task(store.read(lambda _tx: together.wait(10)))
        rest = [asyncio.create_task(store.write(act)) for act in (insert, insert, spoil)]
        await asyncio.sleep(0)  # all four are asked for
        together.set()
        answers = await asyncio.gather(first, *rest, return_exceptions=True)
        assert [type(answer) for answer in answers[1:]] == [sqlite3.IntegrityError] * 3
        await store.write(insert)
    finally:
        await store.close()


async def test_a_birth_that_was_cut_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the first numbers stood: a file that began at 1 would give out ids that
    machines know of an older one, and they would answer with its results."""

    def killed(_connection: sqlite3.Connection) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("platform_sim.store._begin_numbers", killed)
        with pytest.raises(KeyboardInterrupt):
            Store(tmp_path / "p.db")
    gc.collect()  # the connection of the killed one
    store = Store(tmp_path / "p.db")
    try:
        numbers = await store.read(
            lambda tx: tx.execute("SELECT min(seq), count(*) FROM sqlite_sequence").fetchone()
        )
        assert numbers[0] > 1_000_000
        assert numbers[1] == 2
    finally:
        await store.close()


async def test_a_database_has_one_program(tmp_path: Path) -> None:
    first = Store(tmp_path / "p.db")
    with pytest.raises(sqlite3.DatabaseError, match="another platform-sim has it open"):
        Store(tmp_path / "p.db")
    await first.close()
    await Store(tmp_path / "p.db").close()
