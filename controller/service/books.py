"""What the local service needs of the daemon for its books: orders, stock, outbox, journal.

Part of `service.machine.Machine`; the words there hold here too. Streams end by themselves;
of those here each step but the last may be the last that a peer hears.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol


class Books(Protocol):
    # ------------------------------------------------------------------ reading

    async def outbox(self) -> Mapping[str, Any]:
        """`shapes.OutboxView`: what the broker does not have yet, and why."""
        ...

    async def journal_would_prune(self) -> Mapping[str, Any]:
        """`shapes.WouldPrune`. Refused: `clock_unset`."""
        ...

    # ------------------------------------------------------------------ acting

    async def resolve(
        self,
        order_id: int,
        delivery_id: str,
        unit: int,
        outcome: str,
        revision: int,
        reason: str,
        who: str,
    ) -> Mapping[str, Any]:
        """`shapes.Resolved`: the verdict of a person who saw this revision of the unit.

        Refused: `unknown_order`, `results_pruned`, `unknown_unit`, `being_settled`,
        `not_unknown`, `changed` (the revision is another one by now).
        """
        ...

    async def order_cancel(
        self, order_id: int, delivery_id: str, reason: str, who: str
    ) -> Mapping[str, Any]:
        """`shapes.OrderCancelled`: as the platform's own cancel, which hears of it too.

        Refused: `unknown_order`.
        """
        ...

    async def stock_undo_test(self, channel: str | None, who: str) -> Mapping[str, Any]:
        """`shapes.TestsUndone`: what the asker's own test vends dropped is in the lane again.

        Refused: `unknown_channel`, `nothing_to_undo`, `cycle_open`, `over_capacity`; then
        nothing is changed.
        """
        ...

    def journal_check(self, who: str) -> AsyncGenerator[Mapping[str, Any], None]:
        """`shapes.CheckStep`s: any number of `checked`, then `finished` or `damaged`. After
        `damaged` the daemon stops, and its next start sets the journal aside (P13)."""
        ...

    def journal_backup(self, who: str) -> AsyncGenerator[Mapping[str, Any], None]:
        """`shapes.BackupStep`s: `chunk`s of a consistent copy, then `finished`.

        Refused before the first: `busy`, `no_room`, `no_copy`.
        """
        ...

    def journal_prune(self, who: str) -> AsyncGenerator[Mapping[str, Any], None]:
        """`shapes.PruneStep`s: any number of `pruned`, then `finished`.

        Refused before the first: `clock_unset`.
        """
        ...
