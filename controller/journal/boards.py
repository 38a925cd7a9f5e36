"""What is remembered of each board: its memory, and its own high half of cycle ids."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from controller.journal.transaction import Transaction, to_json


def board_memory(tx: Transaction, board: str) -> dict[str, Any]:
    """{} when the board was never seen."""
    row = tx.one("SELECT memory FROM boards WHERE name = ?", board)
    return {} if row is None else dict(json.loads(row["memory"]))


def remember_board(tx: Transaction, board: str, memory: Mapping[str, Any]) -> None:
    """Merge into what is remembered: keys that are not named stay."""
    text = to_json({**board_memory(tx, board), **memory})
    tx.run(
        "INSERT INTO boards (name, memory) VALUES (?,?)"
        " ON CONFLICT (name) DO UPDATE SET memory = excluded.memory",
        board, text,
    )  # fmt: skip


def high_half(tx: Transaction, board: str) -> int:
    """The high half of this board's next cycle id: the birth, or its own after a collision."""
    row = tx.one("SELECT high FROM boards WHERE name = ?", board)
    return max(tx.born(), 0 if row is None else row["high"])


def raise_high_half(tx: Transaction, board: str, above: int) -> int:
    """VBP rule 1: the present Unix second, and in any case above what was used."""
    high = max(int(tx.at), above + 1)
    tx.run(
        "INSERT INTO boards (name, high) VALUES (?,?)"
        " ON CONFLICT (name) DO UPDATE SET high = excluded.high",
        board, high,
    )  # fmt: skip
    return high
