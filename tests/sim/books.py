"""The judge's eye on a technician's acts: verdicts, undone tests, cancels, lanes in and out.

An act is whole in one commit, or absent: its row of the audit, what it does to units and stock,
and what the platform is told. Both ways: no row without its effect, no effect without its row.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.sim.invariants import Cycle, Judge, Key

Ask = Callable[..., sqlite3.Cursor]
Body = Mapping[str, Any]

AUDIT = "SELECT id, who, action, target, detail FROM audit WHERE id > ?"
TOLD = "SELECT row, topic, payload FROM outbox WHERE row > ?"
NEWEST = (
    "SELECT coalesce((SELECT max(id) FROM audit), 0), coalesce((SELECT max(row) FROM outbox), 0)"
)
LANES = (
    "SELECT channel, stock, gone, uncertain, adjusted, loaded, health, counted_n FROM lanes"
    " WHERE active = 1"
)
RESULTS = (
    "SELECT payload FROM outbox JOIN orders ON orders.id = outbox.order_row"
    " WHERE topic = 'result' AND outbox.row <= ? AND order_id = ? AND delivery_id = ? ORDER BY row"
)
LAST_CYCLE = (
    "SELECT cycles.* FROM cycles JOIN orders ON orders.id = order_row"
    " WHERE order_id = ? AND delivery_id = ? AND unit = ? ORDER BY n DESC LIMIT 1"
)
UNKNOWN = "SELECT count(*) FROM cycles WHERE channel = ? AND outcome = 'unknown' AND n > ?"
UNDONE = (
    "SELECT 1 FROM audit, json_each(detail, '$.tests') AS test"
    " WHERE action = 'stock_undo_test' AND audit.id < ? AND test.value = ?"
)
TESTED = (
    "SELECT cycles.n FROM cycles JOIN audit ON target = channel AND action = 'lane_test'"
    " WHERE test_id = ? AND outcome = 'delivered' AND channel = ? AND who = ?"
    " AND json_extract(detail, '$.test_id') = test_id"
)
A_CANCEL_ASKED = "SELECT 1 FROM answers WHERE verb = 'cancel' AND outbox_row = ?"
SEEN_TO_FALL = frozenset({"drop_sensor", "board_record"})
"""Evidence that may still replace a person's verdict, by `delivered`."""
YEAR_S = 31_536_000.0
"""Below the retention of 400 days: a clock so far ahead makes nothing old."""
PARTS = ("stock", "gone", "uncertain", "adjusted", "loaded")


class Books:
    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.verdicts: dict[tuple[Key, int], str] = {}
        """Unit -> the outcome that a person gave it."""
        self._given: list[tuple[Key, int, int, str]] = []
        """Verdicts of the journal in use: unit, its new revision, outcome."""
        self._lanes: dict[str, sqlite3.Row] = {}
        """As the newest commit left them; empty before the first of a journal."""
        self._audit = self._row = 0
        """The newest rows of audit and outbox that were looked at."""

    def another_journal(self) -> None:
        self._lanes = {}
        self._given.clear()

    def forget(self) -> None:
        """What was proved of these verdicts is over."""
        self.verdicts.clear()
        self._given.clear()

    def outcome_stored(self, ask: Ask, key: Key, unit: int) -> Body | None:
        """The newest result of the unit that was stored before this commit."""
        found = (json.loads(payload) for (payload,) in ask(RESULTS, (self._row, *key)).fetchall())
        return max(
            (body for body in found if body["unit"] == unit),
            key=lambda body: int(body["revision"]),
            default=None,
        )

    # ------------------------------------------------------------------ a commit

    def look(self, ask: Ask, open_cycles: Sequence[sqlite3.Row]) -> None:
        """A commit has passed; or a start found one of which its dead daemon never heard."""
        lanes = {row["channel"]: row for row in ask(LANES).fetchall()}
        newest = tuple(ask(NEWEST).fetchone())
        changed = newest != (self._audit, self._row) or lanes != self._lanes
        if self._lanes and changed:
            acts = ask(AUDIT, (self._audit,)).fetchall()
            rows = ask(TOLD, (self._row,)).fetchall()
            _Commit(self, self._judge, ask, acts, rows, self._lanes, lanes, open_cycles).judge()
        self._lanes = lanes
        self._audit, self._row = newest

    def given(self, key: Key, unit: int, revision: int, outcome: str) -> None:
        self.verdicts[key, unit] = outcome
        self._given.append((key, unit, revision, outcome))

    # ------------------------------------------------------------------ at rest

    def last_word(self, ask: Ask) -> None:
        """What is uncertain is what was not settled; each verdict was told, and is the last word
        but for a drop that was seen."""
        must = self._judge.must
        for lane in ask(LANES).fetchall():
            _uncertain(self._judge, ask, lane)
        results = [m.json for m in self._judge.messages if m.topic == "result"]
        for key, unit, revision, outcome in self._given:
            mine = [r for r in results if _unit_of(r) == (key, unit)]
            told = [r for r in mine if (r["revision"], r["evidence"]) == (revision, "technician")]
            what = f"the verdict on {key}#{unit}, {outcome}, revision {revision}"
            must(told and told[0]["outcome"] == outcome, "resolve", f"{what}, was not told")
            must(
                all(
                    r["outcome"] == "delivered" and r["evidence"] in SEEN_TO_FALL
                    for r in mine
                    if r["revision"] > revision
                ),
                "resolve",
                f"{what}, was replaced by less than a drop that was seen",
            )

    def wrong(self, cycle: Cycle) -> bool:
        """A person's verdict on its unit is not what happened in this cycle."""
        verdict = self.verdicts.get((cycle.order, cycle.unit or 0)) if cycle.order else None
        if verdict is None:
            return False
        newest = max(
            other.cycle_id
            for other in self._judge.cycles.values()
            if (other.order, other.unit) == (cycle.order, cycle.unit)
        )
        right = 1 if verdict == "delivered" and cycle.cycle_id == newest else 0
        return cycle.fell != right


class _Commit:
    """One commit: its acts, its messages, the lanes before and after."""

    def __init__(
        self,
        books: Books,
        judge: Judge,
        ask: Ask,
        acts: Sequence[sqlite3.Row],
        rows: Sequence[sqlite3.Row],
        before: Mapping[str, sqlite3.Row],
        after: Mapping[str, sqlite3.Row],
        open_cycles: Sequence[sqlite3.Row],
    ) -> None:
        self._books, self._judge, self._ask = books, judge, ask
        self._acts, self._rows = acts, rows
        self._before, self._after = before, after
        told = [(row["topic"], json.loads(row["payload"])) for row in rows]
        self._results = [body for topic, body in told if topic == "result"]
        self._orders = [body for topic, body in told if topic == "order"]
        self._open = {
            ((row["order_id"], row["delivery_id"]), row["unit"])
            for row in open_cycles
            if row["order_id"] is not None
        }

    def judge(self) -> None:
        for act in self._acts:
            judged = JUDGED.get(act["action"])
            if judged is not None:
                judged(self, act, json.loads(act["detail"]))
                self._judge.counts[f"act_{act['action']}"] += 1
        self._no_act_without_its_row()

    def _must(self, holds: object, act: str, what: str) -> None:
        self._judge.must(holds, act, what)

    # ------------------------------------------------------------------ each act

    def resolved(self, act: sqlite3.Row, detail: Body) -> None:
        """Only on `unknown`, at the revision that was seen; settles the uncertain item."""
        target, outcome, seen = act["target"], detail["outcome"], detail["seen"]
        key, unit = _parsed(target)
        was = self._books.outcome_stored(self._ask, key, unit)
        self._must(
            was and was["outcome"] == "unknown",
            "resolve",
            f"a verdict on {target}, which was {was}",
        )
        assert was is not None
        self._must(
            was["revision"] == seen, "resolve", f"{target} was seen at {seen}, it stood at {was}"
        )
        mine = [result for result in self._results if _unit_of(result) == (key, unit)]
        self._must(len(mine) == 1, "resolve", f"the verdict on {target} comes with results {mine}")
        new = mine[0]
        told = (new["outcome"], new["evidence"], new["revision"])
        right = (outcome, "technician", seen + 1)
        self._must(told == right, "resolve", f"the verdict on {target} is told as {told}")
        (cycle,) = self._ask(LAST_CYCLE, (*key, unit)).fetchall()
        asked = cycle["closed_at"] is None or cycle["quarantined"]
        self._must(not asked, "resolve", f"a verdict on {target} while its board is asked")
        (order,) = self._ask(
            "SELECT finished_at FROM orders WHERE order_id = ? AND delivery_id = ?", key
        ).fetchall()
        again = [o for o in self._orders if _order_of(o) == key and o["status"] == "finished"]
        self._must(
            again or order["finished_at"] is None, "resolve", f"{target}: no `finished` again"
        )
        lane = self._after[cycle["channel"]]
        _uncertain(self._judge, self._ask, lane)
        before = self._before[cycle["channel"]]
        if cycle["n"] > before["counted_n"]:
            settled = before["uncertain"] - lane["uncertain"]
            self._must(settled == 1, "P10", f"the verdict on {target} settled {settled}")
            home = 1 if outcome == "not_delivered" else 0
            grew = lane["stock"] - before["stock"]
            self._must(
                grew == home or not home, "P10", f"{target} is {outcome}, stock grew by {grew}"
            )
        self._books.given(key, unit, seen + 1, outcome)

    def undone(self, act: sqlite3.Row, detail: Body) -> None:
        """What own tests dropped since the count is in the lane again, once."""
        channel, items = act["target"], detail["items"]
        before, after = self._before[channel], self._after[channel]
        changed = [after[part] - before[part] for part in PARTS]
        self._must(
            changed == [items, -items, 0, 0, 0],
            "undo",
            f"{channel}: {items} back, {changed} booked",
        )
        for test in detail["tests"]:
            twice = self._ask(UNDONE, (act["id"], test)).fetchone()
            self._must(twice is None, "undo", f"test {test} of {channel} is undone again")
            own = self._ask(TESTED, (test, channel, act["who"])).fetchall()
            self._must(own, "undo", f"{act['who']} undoes {test} of {channel}, another's")
            counted = own[0]["n"] <= before["counted_n"]
            self._must(not counted, "undo", f"test {test} of {channel}, which was counted since")
        self._judge.put_back(channel, detail["tests"])

    def cancelled(self, act: sqlite3.Row, detail: Body) -> None:
        """The units that wait end, told as cancelled; none whose cycle began."""
        key, ended = _parsed(act["target"] + "#0")[0], set(detail["units"])
        mine = {r["unit"]: r for r in self._results if _order_of(r) == key}
        self._must(
            ended == set(mine), "cancel", f"order {key}: {ended} cancelled, told of {set(mine)}"
        )
        for unit in ended:
            name = f"{key}#{unit}"
            was = self._books.outcome_stored(self._ask, key, unit)
            self._must(was is None, "cancel", f"{name} is cancelled, it was {was}")
            told = [mine[unit][word] for word in ("outcome", "reason", "revision")]
            right = ["not_delivered", "cancelled", 1]
            self._must(told == right, "cancel", f"{name} is cancelled, told as {told}")
            self._must((key, unit) not in self._open, "cancel", f"{name} is cancelled, and runs")
        answers = [o for o in self._orders if _order_of(o) == key and o["status"] == "cancelled"]
        self._must(
            [a["code"] for a in answers] == [detail["code"]],
            "cancel",
            f"order {key} is cancelled ({detail['code']}), told as {answers}",
        )

    def disabled(self, act: sqlite3.Row, detail: Body) -> None:
        del detail
        health = self._after[act["target"]]["health"]
        self._must(health == "disabled", "lane", f"{act['target']} is disabled, and {health}")

    def enabled(self, act: sqlite3.Row, detail: Body) -> None:
        del detail
        health = self._after[act["target"]]["health"]
        self._must(health == "ok", "lane", f"{act['target']} is enabled, and {health}")

    # ------------------------------------------------------------------ and the other way

    def _no_act_without_its_row(self) -> None:
        rows = {(act["action"], act["target"]) for act in self._acts}
        for result in self._results:
            key, unit = _unit_of(result)
            name = _named(key)
            if result["evidence"] == "technician":
                row = ("resolve", f"{name}#{unit}")
                self._must(row in rows, "audit", f"a verdict on {name}#{unit}, by nobody")
            elif result["reason"] == "cancelled" and ("order_cancel", name) not in rows:
                asked = [self._ask(A_CANCEL_ASKED, (row["row"],)).fetchone() for row in self._rows]
                self._must(any(asked), "audit", f"{name}#{unit} is cancelled, by nobody")
        for channel, lane in self._after.items():
            total = sum(lane[part] for part in PARTS[:-1])
            self._must(total == lane["loaded"], "P10", f"a commit leaves lane {dict(lane)}")
            was = self._before.get(channel)
            if was is not None and was["gone"] > lane["gone"]:
                row = ("stock_undo_test", channel)
                self._must(row in rows, "audit", f"items are back in {channel}, by nobody")
            if was is not None and was["health"] != lane["health"] == "disabled":
                row = ("lane_disable", channel)
                self._must(row in rows, "audit", f"lane {channel} is disabled, by nobody")


JUDGED: Mapping[str, Callable[[_Commit, sqlite3.Row, Body], None]] = {
    "resolve": _Commit.resolved,
    "stock_undo_test": _Commit.undone,
    "order_cancel": _Commit.cancelled,
    "lane_disable": _Commit.disabled,
    "lane_enable": _Commit.enabled,
}
"""Action of an audit row -> how it is judged."""


def _uncertain(judge: Judge, ask: Ask, lane: sqlite3.Row) -> None:
    """As many as cycles left unknown since the count, where no clock far ahead pruned those."""
    if judge.time.most_ahead > YEAR_S:
        return
    (unknown,) = ask(UNKNOWN, (lane["channel"], lane["counted_n"])).fetchone()
    what = f"{unknown} cycles of lane {lane['channel']} are unknown, {lane['uncertain']} uncertain"
    judge.must(unknown == lane["uncertain"], "P10", what)


def _parsed(target: str) -> tuple[Key, int]:
    """Of a row of the audit: ORDER#UNIT or ORDER/DELIVERY#UNIT."""
    name, _, unit = target.rpartition("#")
    order, _, delivery = name.partition("/")
    return (int(order), delivery), int(unit)


def _named(key: Key) -> str:
    return f"{key[0]}/{key[1]}" if key[1] else str(key[0])


def _order_of(body: Body) -> Key:
    return body["order_id"], body["delivery_id"]


def _unit_of(body: Body) -> tuple[Key, int]:
    return _order_of(body), body["unit"]
