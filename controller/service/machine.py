"""What the local service needs from the daemon: one Protocol, in three groups.

The daemon's composition implements `Machine` on the heart and the journal; the
service knows nothing else of it. Answers are JSON-able mappings whose shapes
are spelled out in `controller.service.shapes`, named in each docstring here.

Reading changes nothing. Acting methods take `who`, the user's name at the other
end of the socket, which is journalled with the act (P6). A refusal is
`errors.Refused(code, message)`; the codes that each method may use are listed,
others are possible and are handed on as they stand. Every method may also raise
`errors.JournalUnwritable` (P12). Channels arrive in canonical form (`A1`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol

from controller.service.books import Books


class Machine(Books, Protocol):
    """The daemon, as a technician sees it."""

    # ------------------------------------------------------------------ reading

    async def status(self) -> Mapping[str, Any]:
        """`shapes.Status`."""
        ...

    async def orders(self, limit: int, before: int | None) -> Mapping[str, Any]:
        """`shapes.Orders`: the newest `limit` (1..500), older than the cursor `before`."""
        ...

    async def order(self, order_id: int, delivery_id: str | None) -> Mapping[str, Any]:
        """`shapes.OrderDetails`; `delivery_id` None means every delivery of the order.

        Refused: `unknown_order`.
        """
        ...

    async def lanes(self) -> Mapping[str, Any]:
        """`shapes.Lanes`, in the order of the settings."""
        ...

    async def lane(self, channel: str) -> Mapping[str, Any]:
        """`shapes.LaneDetails`. Refused: `unknown_channel`."""
        ...

    async def link(self) -> Mapping[str, Any]:
        """`shapes.Link`."""
        ...

    async def events(self, limit: int) -> Mapping[str, Any]:
        """`shapes.Events`: the newest `limit` (1..500), oldest of them first."""
        ...

    def trace(
        self, seconds: int, board: str | None, *, follow: bool, quiet: bool
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """`shapes.TraceLine`s: the last `seconds` of a board's line (None: of every board's),
        then, with `follow`, what comes. `quiet` leaves out what only keeps a line alive. May
        be left at any line. Refused: `unknown_board`."""
        ...

    def eye(self, name: str, seconds: int) -> AsyncGenerator[Mapping[str, Any], None]:
        """`shapes.EyeLine`s of a cabinet's light eye for so long (1..3600 s), a line a second at
        least. Never asks a board whose motor turns. Refused, before the first line:
        `unknown_cabinet`."""
        ...

    async def doctor(self) -> Mapping[str, Any]:
        """`shapes.Checkup`: what the daemon alone knows for `vendctl doctor`."""
        ...

    async def journal_extract(self, rows: int) -> Mapping[str, Any]:
        """`shapes.JournalExtract`: the newest `rows` (1..500) of each table."""
        ...

    def watch(self) -> AsyncGenerator[Mapping[str, Any], None]:
        """`shapes.WatchLine`s until it is closed, at any moment: a snapshot, then changes."""
        ...

    # ------------------------------------------------------------------ acting

    async def lane_enable(self, channel: str, reason: str, who: str) -> Mapping[str, Any]:
        """`shapes.LaneActed`; failures in a row count from nought again.

        Refused: `unknown_channel`.
        """
        ...

    async def lane_disable(self, channel: str, reason: str, who: str) -> Mapping[str, Any]:
        """`shapes.LaneActed`; kept over restarts. Refused: `unknown_channel`."""
        ...

    async def stock_set(self, channel: str, stock: int, who: str) -> Mapping[str, Any]:
        """`shapes.LaneActed`; settles what was uncertain in the lane (P10).

        Refused: `unknown_channel`, `cycle_open`, `over_capacity`.
        """
        ...

    async def stock_fill(self, cabinet: str | None, who: str) -> Mapping[str, Any]:
        """`shapes.LanesActed`: each lane of the cabinet (None: of all) holds its capacity.

        Refused: `unknown_cabinet`, `cycle_open` (then nothing is changed).
        """
        ...

    async def cabinet_stop(self, name: str, reason: str, who: str) -> Mapping[str, Any]:
        """`shapes.CabinetActed`. Durable when it returns; no new cycle begins there.

        A cycle that runs already goes on to its end: the answer's `moving` says so, and
        a hand must wait for it. Refused: `unknown_cabinet`.
        """
        ...

    async def cabinet_start(self, name: str, who: str) -> Mapping[str, Any]:
        """`shapes.CabinetActed`. Ends every wait for a technician.

        Refused: `unknown_cabinet`, `stock_unconfirmed` (after a lost journal each lane
        needs `stock set` or `stock fill` first, P13).
        """
        ...

    async def board_accept(self, name: str, who: str) -> Mapping[str, Any]:
        """`shapes.BoardActed`. Refused: `unknown_board`, `nothing_to_accept`."""
        ...

    async def clock_accept(self, who: str) -> Mapping[str, Any]:
        """`shapes.ClockActed`: a clock that is behind what the journal knows is right. It may
        still wait for its synchronisation. Refused: `nothing_to_accept`."""
        ...

    async def service_on(self, who: str) -> Mapping[str, Any]:
        """`shapes.ServiceActed`. Durable when it returns: orders are rejected, and no customer's
        cycle begins. One that runs goes on to its end, as the answer's `moving` says."""
        ...

    async def service_off(self, who: str) -> Mapping[str, Any]:
        """`shapes.ServiceActed`. Refused: `busy` while a test vend waits or runs."""
        ...

    def test_lane(
        self, channel: str, cycles: int, who: str
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """A test vend of `cycles` cycles (1..20), one after the other (P6).

        Yields `shapes.VendStep`s: for each cycle any number of `waiting` (none is open
        yet), one `started`, any number of `progress`, one `outcome`; at the end of all
        `finished`. An `outcome` is yielded when it is durable and the cycle closed.

        The service closes the generator (`aclose`) only at a `waiting` or an `outcome`,
        when the technician went away, so a cycle that began is always followed to its
        end; `stop_test` is called for it as soon as they went. Only the daemon's own stop
        (`Service.close` after its grace) cancels it inside a cycle: what happens to that
        cycle is the daemon's matter.

        Refused, before the first step: `unknown_channel`, `busy`, `out_of_service`,
        `unresolved`, `quarantined`, `not_in_service_mode`, `shutting_down`; between two
        cycles it may be raised too and ends the stream.
        """
        ...

    async def stop_test(self, test_id: str, who: str) -> Mapping[str, Any]:
        """`shapes.TestStopped`: no further cycle of this test begins, and the motor of one that
        runs is stopped where the board can. Its outcome comes on the test's own stream.

        Only ever a test's cycle. Refused: `unknown_test`, which is also one that is over.
        """
        ...
