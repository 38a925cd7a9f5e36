"""Acting requests from afar: which were begun, and what came of them.

A request lives a minute, so few need to be kept: `KEPT` is more than the most that are
answered in its life and the clock's skew (five a second, twenty at once).
"""

from __future__ import annotations

import json

from controller.dispensing.interfaces import RequestClaimed, RequestTold
from controller.journal.transaction import Transaction, to_json

KEPT = 2_000


def claim(tx: Transaction, request_id: str, content: str) -> RequestClaimed | None:
    """None: it is new, and from now on known."""
    known = find(tx, request_id, content)
    if known is None:
        tx.run(
            "INSERT INTO requests (request_id, content, at) VALUES (?,?,?)",
            request_id, content, tx.at,
        )  # fmt: skip
        tx.run("DELETE FROM requests WHERE n <= (SELECT MAX(n) FROM requests) - ?", KEPT)
    return known


def find(tx: Transaction, request_id: str, content: str) -> RequestClaimed | None:
    """None: it was never claimed here."""
    row = tx.one("SELECT * FROM requests WHERE request_id = ?", request_id)
    if row is None:
        return None
    told = None
    if row["code"] is not None:
        told = RequestTold(row["code"], row["message"], json.loads(row["data"]))
    return RequestClaimed(row["content"] == content, told)


def settle(tx: Transaction, request_id: str, told: RequestTold) -> None:
    tx.run(
        "UPDATE requests SET code = ?, message = ?, data = ? WHERE request_id = ?",
        told.code, told.message, to_json(told.data), request_id,
    )  # fmt: skip
