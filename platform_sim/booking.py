"""What machines say, booked exactly once.

A result is (order, delivery, unit, revision): an older or equal revision changes nothing, whichever
way it came twice. What stands in a machine's journal is numbered; a number that is missing is asked
for after a moment, and what came behind it is booked meanwhile.

`unknown` is a timeout here and never a failure: the unit may have fallen, and nothing goes back
into stock. A later revision corrects it, and the merchant is told again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from platform_sim import contract, deliveries, merchant_words
from platform_sim.contract import NotOurs, OrderWord, Place, Result
from platform_sim.deliveries import Terms, UnitStatus

ASK_AFTER_S = 3.0
"""Behind a gap: a broker may hand a shared subscription's messages out of order by that much."""
ASK_AGAIN_S = 60.0
"""The machine may be away, or allow five requests a second to many of us."""
PAGE = 100
AHEAD = 10_000
"""Numbers kept behind a gap; of a machine that tells more, the oldest gap is given up."""

NUMBERED = ("result", "order")
"""What stands in a machine's journal."""

OF_OUTCOME = {
    "delivered": UnitStatus.DONE,
    "not_delivered": UnitStatus.FAILED,
    "unknown": UnitStatus.TIMED_OUT,
}


def book(tx: sqlite3.Connection, terms: Terms, machine_no: str, leaf: str, payload: bytes) -> None:
    """Never raises for what a machine says: what cannot be read is counted."""
    try:
        said = contract.read(payload, machine_no)
    except NotOurs as error:
        _count_unread(tx, leaf, error)
        return
    if _is_known(tx, machine_no):
        _book(tx, terms, machine_no, leaf, said)
    else:
        count(tx, "a word of no machine of ours")


def _book(
    tx: sqlite3.Connection, terms: Terms, machine_no: str, leaf: str, said: Mapping[str, Any]
) -> None:
    """One that cannot be read fills its place all the same: asked for, it would come as it was."""
    try:
        BOOKS.get(leaf, _no_book)(tx, terms, machine_no, said)
    except NotOurs as error:
        _count_unread(tx, leaf, error)
        if leaf in NUMBERED:
            _note_place(tx, terms, machine_no, _place(said))


def _place(said: Mapping[str, Any]) -> Place | None:
    try:
        return contract.place(said)
    except NotOurs:
        return None


def _count_unread(tx: sqlite3.Connection, leaf: str, error: NotOurs) -> None:
    count(tx, f"not booked: {leaf[:30]}: {str(error)[:80]}")


def count(tx: sqlite3.Connection, name: str) -> None:
    """Bounded: the first thousand names count for themselves."""
    if tx.execute("SELECT count(*) FROM counter").fetchone()[0] >= 1000:  # noqa: PLR2004
        name = "others"
    tx.execute(
        "INSERT INTO counter VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET count = count + 1",
        (name,),
    )


def _is_known(tx: sqlite3.Connection, machine_no: str) -> bool:
    found = tx.execute("SELECT 1 FROM machine WHERE machine_no = ?", (machine_no,)).fetchone()
    return found is not None


# ---------------------------------------------------------------------- results and orders


def _result(tx: sqlite3.Connection, terms: Terms, machine_no: str, said: Mapping[str, Any]) -> None:
    result = contract.result(said)
    _book_result(tx, terms, machine_no, result)
    _note_place(tx, terms, machine_no, result.place)


def _book_result(tx: sqlite3.Connection, terms: Terms, machine_no: str, result: Result) -> None:
    delivery = _of(tx, machine_no, result.order_id, result.delivery_id)
    if delivery is None:
        count(tx, "a result of no delivery of ours")
        return
    status = OF_OUTCOME[result.outcome]
    if status is UnitStatus.FAILED and result.reason == "cancelled":
        status = UnitStatus.CANCELLED
    deliveries.set_unit(
        tx,
        delivery,
        result.unit,
        status,
        revision=result.revision,
        reason=result.reason,
        channel=result.channel,
        late=result.late,
        finished_at=result.finished_at,
    )
    deliveries.settle(tx, terms, delivery)


def _order(tx: sqlite3.Connection, terms: Terms, machine_no: str, said: Mapping[str, Any]) -> None:
    word = contract.order_word(said)
    delivery = _of(tx, machine_no, word.order_id, word.delivery_id)
    if delivery is None:
        count(tx, "an order of no delivery of ours")
    elif word.status == "accepted":
        tx.execute(
            "UPDATE unit SET status = ? WHERE delivery_id = ? AND status = ?",
            (UnitStatus.DISPENSING, word.delivery_id, UnitStatus.WAITING),
        )
    elif word.status == "rejected" or word.code == "results_pruned" or _is_promise(word):
        _close_unheard(tx, terms, delivery, word, said)
    _note_place(tx, terms, machine_no, word.place)


def _is_promise(word: OrderWord) -> bool:
    """A cancel's answer: the machine never saw the command, and will refuse it."""
    return word.code == "unknown_order" and word.executed == "no"


def _close_unheard(
    tx: sqlite3.Connection,
    terms: Terms,
    delivery: sqlite3.Row,
    word: OrderWord,
    said: Mapping[str, Any],
) -> None:
    """The units that no result tells of: by the whole command's word.

    Only `command_executed: no` says that nothing moved; else nobody knows, and nobody may refund.
    """
    quantity, reason = delivery["quantity"], word.code
    if word.code == "results_pruned" and said.get("delivered") == quantity:
        status = UnitStatus.DONE
    elif word.code == "results_pruned" and said.get("not_delivered") == quantity:
        status = UnitStatus.FAILED
    elif _is_promise(word):
        status, reason = UnitStatus.CANCELLED, "cancelled"
    elif word.status == "rejected" and word.executed == "no":
        status = UnitStatus.CANCELLED if word.code == "cancelled" else UnitStatus.FAILED
    else:
        status = UnitStatus.TIMED_OUT
    for unit in range(1, quantity + 1):
        deliveries.set_unit(tx, delivery, unit, status, reason=reason)
    deliveries.settle(tx, terms, delivery)


def _of(
    tx: sqlite3.Connection, machine_no: str, order_id: int, delivery_id: str
) -> sqlite3.Row | None:
    delivery = deliveries.find(tx, delivery_id)
    if delivery is None:
        return None
    same = (delivery["machine_no"], delivery["order_id"]) == (machine_no, order_id)
    return delivery if same else None


# ---------------------------------------------------------------------- gaps


def _note_place(tx: sqlite3.Connection, terms: Terms, machine_no: str, place: Place | None) -> None:
    if place is None:
        return
    key = (machine_no, place.journal)
    row = tx.execute(
        "SELECT upto FROM journal WHERE machine_no = ? AND journal = ?", key
    ).fetchone()
    if row is None:
        upto = _first_known(tx, machine_no, place)
        tx.execute("INSERT INTO journal (machine_no, journal, upto) VALUES (?, ?, ?)", (*key, upto))
    else:
        upto = row["upto"]
    if place.seq <= upto:
        return
    if place.seq > upto + 1:
        tx.execute("INSERT OR IGNORE INTO ahead VALUES (?, ?, ?)", (*key, place.seq))
        tx.execute(
            "UPDATE journal SET ask_at = coalesce(ask_at, ?) WHERE machine_no = ? AND journal = ?",
            (terms.now + ASK_AFTER_S, *key),
        )
        _bound_ahead(tx, key, upto)
        return
    _go_on(tx, key, place.seq)


def _first_known(tx: sqlite3.Connection, machine_no: str, place: Place) -> int:
    """A machine whose first word this is may have a long past, which is nobody's here; a further
    journal of a machine that we know begins at 1."""
    known = tx.execute(
        "SELECT 1 FROM journal WHERE machine_no = ? LIMIT 1", (machine_no,)
    ).fetchone()
    return place.seq - 1 if known is None else 0


def _go_on(tx: sqlite3.Connection, key: tuple[str, int], upto: int) -> None:
    """Booked without a gap up to there, and through what had come ahead."""
    while True:
        done = tx.execute(
            "DELETE FROM ahead WHERE machine_no = ? AND journal = ? AND seq = ?", (*key, upto + 1)
        )
        if done.rowcount == 0:
            break
        upto += 1
    tx.execute("DELETE FROM ahead WHERE machine_no = ? AND journal = ? AND seq <= ?", (*key, upto))
    still = tx.execute(
        "SELECT 1 FROM ahead WHERE machine_no = ? AND journal = ? LIMIT 1", key
    ).fetchone()
    tx.execute(
        "UPDATE journal SET upto = ?, ask_at = CASE WHEN ? THEN ask_at END"
        " WHERE machine_no = ? AND journal = ?",
        (upto, still is not None, *key),
    )


def _bound_ahead(tx: sqlite3.Connection, key: tuple[str, int], upto: int) -> None:
    kept = tx.execute(
        "SELECT count(*), min(seq) FROM ahead WHERE machine_no = ? AND journal = ?", key
    ).fetchone()
    if kept[0] > AHEAD:
        count(tx, f"gap given up: {key[0]}: {upto + 1} to {kept[1] - 1}")
        _go_on(tx, key, kept[1] - 1)


def ask_for_gaps(tx: sqlite3.Connection, terms: Terms, limit: int) -> None:
    """Timers call it: what is missing for a while is asked for, page by page."""
    due = tx.execute(
        "SELECT * FROM journal WHERE ask_at <= ? ORDER BY ask_at LIMIT ?", (terms.now, limit)
    ).fetchall()
    for row in due:
        _ask(tx, terms, row["machine_no"], row["journal"], row["upto"])


def _ask(tx: sqlite3.Connection, terms: Terms, machine_no: str, journal: int, upto: int) -> None:
    payload = contract.ask_results(journal=journal, seq=upto, limit=PAGE)
    deliveries.send(tx, machine_no, "request/results", payload, drop_at=terms.now + ASK_AGAIN_S)
    tx.execute(
        "UPDATE journal SET ask_at = ? WHERE machine_no = ? AND journal = ?",
        (terms.now + ASK_AGAIN_S, machine_no, journal),
    )


def _results_page(
    tx: sqlite3.Connection, terms: Terms, machine_no: str, said: Mapping[str, Any]
) -> None:
    """The answer to a gap: each message as if it had come by itself, and the next page if there is
    one. What the machine has pruned is nobody's any more: the gap ends where its page begins."""
    data = contract.mapping(said, "data")
    journal = _asked_journal(contract.text(said, "request_id"))
    topics = data.get("topics")
    messages = contract.listing(data, "messages")
    if said.get("code") != "ok" or journal is None:
        return
    if not isinstance(topics, list) or len(topics) != len(messages):
        return
    key = (machine_no, journal)
    before = _upto(tx, key)
    pairs = zip(topics, messages, strict=True)
    numbered = [(leaf, message) for leaf, message in pairs if leaf in NUMBERED]
    for leaf, message in numbered:
        _book(tx, terms, machine_no, leaf, message)
    following = contract.mapping(data, "next")
    if before is not None:
        places = [place for _, message in numbered if (place := _place(message)) is not None]
        _go_past_pruned(tx, key, places, last=not following)
    upto = _upto(tx, key)
    if following and before is not None and upto is not None and upto > before:
        _ask(tx, terms, machine_no, journal, upto)


def _go_past_pruned(
    tx: sqlite3.Connection, key: tuple[str, int], places: Sequence[Place], *, last: bool
) -> None:
    """A page goes on into later journals: each numbers for itself."""
    upto = _upto(tx, key)
    seen = [place.seq for place in places if place.journal == key[1]]
    if upto is None:
        return
    if seen and upto < min(seen) - 1:
        count(tx, f"pruned on the machine: {key[0]}")
        _go_on(tx, key, min(seen) - 1)
    elif not seen and any(place.journal > key[1] for place in places):
        count(tx, f"pruned on the machine: {key[0]}")
        _go_on(tx, key, _last_ahead(tx, key))
    elif not seen and last:
        count(tx, f"gap without an answer: {key[0]}")


def _asked_journal(request_id: str) -> int | None:
    """Of a request of ours for a gap; see contract.ask_results."""
    parts = request_id.split("-")
    if len(parts) != 3 or parts[0] != "gap":  # noqa: PLR2004
        return None
    digits = parts[1].isascii() and parts[1].isdigit()
    journal = int(parts[1]) if digits else 0
    return journal if 0 < journal <= contract.BIGGEST_NUMBER else None


def _upto(tx: sqlite3.Connection, key: tuple[str, int]) -> int | None:
    """Booked up to there, where a gap is behind it; None: no gap."""
    row = tx.execute(
        "SELECT upto FROM journal WHERE machine_no = ? AND journal = ? AND ask_at IS NOT NULL", key
    ).fetchone()
    return None if row is None else int(row["upto"])


def _last_ahead(tx: sqlite3.Connection, key: tuple[str, int]) -> int:
    row = tx.execute(
        "SELECT max(seq) FROM ahead WHERE machine_no = ? AND journal = ?", key
    ).fetchone()
    return int(row[0])


# ---------------------------------------------------------------------- state, inventory, tests


def _state(tx: sqlite3.Connection, terms: Terms, machine_no: str, said: Mapping[str, Any]) -> None:
    mode = contract.text(said, "mode")
    tx.execute(
        "UPDATE machine SET online = ?, mode = ?, heard_at = ? WHERE machine_no = ?",
        (said.get("online") is True, mode, terms.now, machine_no),
    )


def _inventory(
    tx: sqlite3.Connection, _terms: Terms, machine_no: str, said: Mapping[str, Any]
) -> None:
    """The machine's own count is the truth: for sale is what lies there, less what orders hold."""
    at = contract.text(said, "at")
    for lane in contract.listing(said, "lanes"):
        channel, stock = lane.get("channel"), lane.get("stock")
        if not isinstance(channel, str) or isinstance(stock, bool) or not isinstance(stock, int):
            continue
        row = tx.execute(
            "SELECT product_id FROM product WHERE machine_no = ? AND channel = ?",
            (machine_no, channel),
        ).fetchone()
        if row is None:
            continue
        held = _held(tx, machine_no, row["product_id"])
        tx.execute(
            "UPDATE product SET stock = min(capacity, max(0, ?)), counted_at = ?"
            " WHERE machine_no = ? AND channel = ?",
            (max(0, min(stock, 1 << 31)) - held, at, machine_no, channel),
        )
        floor = merchant_words.HEALTHS.get(str(lane.get("health")))
        if floor is not None:
            tx.execute(
                "UPDATE product SET floor_status = ? WHERE machine_no = ? AND channel = ?"
                " AND NOT (? = '1' AND floor_status = '2')",  # a jam: until its next good vend
                (floor, machine_no, channel, floor),
            )


def _held(tx: sqlite3.Connection, machine_no: str, product_id: int) -> int:
    """Units that orders hold and that still lie in the lane, as far as anybody knows. A closed
    order's too, where they have gone out and the machine has not said what became of them."""
    ordered = tx.execute(
        "SELECT coalesce(sum(quantity - returned), 0) FROM record"
        " WHERE machine_no = ? AND product_id = ?"
        " AND status IN ('WAITING_PICKED_UP', 'IS_DELIVERING')",
        (machine_no, product_id),
    ).fetchone()[0]
    settled = tx.execute(
        "SELECT count(*) FROM record JOIN delivery USING (record_id) JOIN unit USING (delivery_id)"
        " WHERE record.machine_no = ? AND record.product_id = ? AND unit.status NOT IN (-1, 3)"
        " AND record.status IN ('WAITING_PICKED_UP', 'IS_DELIVERING')",
        (machine_no, product_id),
    ).fetchone()[0]
    return int(ordered) - int(settled)


def _test_answer(
    tx: sqlite3.Connection, terms: Terms, machine_no: str, said: Mapping[str, Any]
) -> None:
    delivery = deliveries.find(tx, contract.text(said, "request_id"))
    if delivery is None or delivery["order_id"] is not None:
        return
    if delivery["machine_no"] != machine_no:
        return
    data = contract.mapping(said, "data")
    code = contract.text(said, "code")
    if code == "ok":
        tx.execute(
            "UPDATE delivery SET test_id = ? WHERE number = ?",
            (contract.text(data, "test_id") or None, delivery["number"]),
        )
    elif code != "interrupted":  # nobody knows: the backstop ends it
        _end_test(tx, terms, delivery, UnitStatus.FAILED, code)


def _event(tx: sqlite3.Connection, terms: Terms, machine_no: str, said: Mapping[str, Any]) -> None:
    if said.get("kind") != "test_vend":
        return
    detail = contract.mapping(said, "detail")
    row = tx.execute(
        "SELECT * FROM delivery WHERE machine_no = ? AND test_id = ?",
        (machine_no, contract.text(detail, "test_id")),
    ).fetchone()
    if row is None:
        return
    outcome = contract.one_of(detail, "outcome", tuple(OF_OUTCOME))
    _end_test(tx, terms, row, OF_OUTCOME[outcome], contract.text(detail, "reason"))


def _end_test(
    tx: sqlite3.Connection, terms: Terms, delivery: sqlite3.Row, status: UnitStatus, reason: str
) -> None:
    deliveries.set_unit(tx, delivery, 1, status, revision=1, reason=reason)
    deliveries.settle(tx, terms, delivery)


def _no_book(
    _tx: sqlite3.Connection, _terms: Terms, _machine_no: str, _said: Mapping[str, Any]
) -> None:
    """A topic of the contract that this platform does not read."""


BOOKS: Mapping[str, Callable[[sqlite3.Connection, Terms, str, Mapping[str, Any]], None]] = {
    "result": _result,
    "order": _order,
    "state": _state,
    "inventory": _inventory,
    "event": _event,
    "response/results": _results_page,
    "response/lane.test": _test_answer,
}
