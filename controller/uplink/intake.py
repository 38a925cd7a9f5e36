"""From the bytes of a command to an accepted order or a rejection.

The order of checks is part of the contract: size, JSON, signature (not spoken
here yet), machine_no, identity, retained, clock, times, then the heart judges
mode, products and stock. Identity comes before everything that time or a mistake
could have changed, so a command that was executed is answered with its stored
results and never with a rejection (P8).

Where an answer goes:

* a dispense with a readable identity: `order`, stored, with the same answer for
  the same issued_at;
* one without, and every refused cancel: `event`, counted, and rate-limited where the
  sender is to blame (a refused cancel is no word about its order);
* a journal that cannot be written, or has no birth yet, or has stored as many
  rejections as a flood may cause: published past it with `journal` and `seq` null,
  and the command is acknowledged only after the broker has that (P12, P13, P14).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from controller.codes import CODES
from controller.dispensing.interfaces import (
    Cancellation,
    Clock,
    CommandJournal,
    OrderDesk,
    OrderFacts,
    Rejection,
    Standing,
)
from controller.errors import JournalError, JournalUncertain
from controller.model import Code, Executed, Order, OrderKey, OrderStatus
from controller.uplink.allowance import Allowance
from controller.uplink.commands import (
    BadField,
    CancelCommand,
    Content,
    Times,
    cancellation_of,
    identity_of,
    is_zero,
    issued_at_of,
    order_of,
    read_model,
    trade_id_of,
)
from controller.uplink.jsontext import BadJson, read_object
from controller.uplink.logs import say
from controller.uplink.messages import Payloads

LARGEST_PAYLOAD = 64 * 1024
"""Bytes. An order of 50 lines is 5 KiB; what is larger is refused unread."""

EVENTS_AT_ONCE = 10
EVENT_PERIOD_S = 10.0
"""Garbage may cause ten events at once and one each 10 s after: enough to be seen, and a
flood of it writes no more than 8,640 rows a day."""

MAY_HAVE_BEEN_EXECUTED = frozenset({Code.CONFLICT, Code.JOURNAL_RESET})
"""Rejections that never say `command_executed: no`, whoever finds them."""


OWN_TROUBLE = frozenset({Code.JOURNAL_UNWRITABLE, Code.CLOCK_UNSET})
"""The sender did nothing wrong: told each time, and acknowledged only after that (P12, P13)."""


class Disposition(Enum):
    """What the broker is told about a message."""

    ACKNOWLEDGE = "acknowledge"
    LEAVE = "leave"
    """Not acknowledged: the broker keeps it and brings it again on a later connection."""


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    """Times in seconds."""

    machine_no: str
    order_ttl_s: int = 90
    skew_s: int = 30
    max_units: int = 50


PublishNow = Callable[[str, bytes], Awaitable[bool]]
"""(last part of the topic, payload): True when the broker has acknowledged it with success."""


@dataclass(slots=True)
class Intake:
    """Judges `dispense` and `cancel` messages. `counters` has one count per code."""

    settings: IntakeSettings
    journal: CommandJournal
    desk: OrderDesk
    clock: Clock
    payloads: Payloads
    publish_now: PublishNow
    counters: Counter[str] = field(default_factory=Counter)
    _events: Allowance = field(default_factory=lambda: Allowance(EVENTS_AT_ONCE, EVENT_PERIOD_S))

    async def dispense(self, payload: bytes | None, *, retained: bool) -> Disposition:
        """`payload` None stands for one that was too large to be kept."""
        try:
            value = self._object(payload)
        except _Refusal as refusal:
            return await self._refuse_nameless("dispense", refusal)
        key = identity_of(value)
        if key is None:
            return await self._refuse_nameless("dispense", self._why_nameless(value))
        try:
            content = self._content(value)
        except _Refusal as refusal:
            return await self._refuse_unreadable(key, value, refusal)
        return await self._known_or_new(content, value, retained=retained)

    async def cancel(self, payload: bytes | None, *, retained: bool) -> Disposition:
        """Never moves a motor, so neither clock nor age matters, only what memory covers."""
        value: Mapping[str, Any] = {}
        try:
            value = self._object(payload)
            cancellation = self._cancellation(value, retained=retained)
            code = await self.desk.cancel(cancellation)
        except _Refusal as refusal:
            return await self._refuse_nameless("cancel", refusal, identity_of(value))
        except JournalError:
            unwritable = _Refusal(Code.JOURNAL_UNWRITABLE)
            return await self._refuse_nameless("cancel", unwritable, identity_of(value))
        self.counters[f"cancel_{code.value}"] += 1
        say(logging.INFO, "cancel", order=str(cancellation.key), code=code.value)
        return Disposition.ACKNOWLEDGE

    # ------------------------------------------------------------------ checks

    def _object(self, payload: bytes | None) -> dict[str, Any]:
        if payload is None or len(payload) > LARGEST_PAYLOAD:
            raise _Refusal(Code.TOO_LARGE)
        try:
            return read_object(payload)
        except BadJson as error:
            raise _Refusal(Code.BAD_JSON, str(error)) from None

    def _own_machine(self, value: Mapping[str, Any]) -> None:
        machine_no = value.get("machine_no")
        if not is_zero(machine_no) and machine_no != self.settings.machine_no:
            raise _Refusal(Code.WRONG_MACHINE)

    def _cancellation(self, value: Mapping[str, Any], *, retained: bool) -> Cancellation:
        self._own_machine(value)
        try:
            command = read_model(CancelCommand, value)
        except BadField as error:
            raise _Refusal(Code.BAD_FIELD, str(error)) from None
        if retained:
            raise _Refusal(Code.RETAINED)
        if self.journal.birth is None:
            raise _Refusal(Code.CLOCK_UNSET)
        if command.issued_at < (self.journal.bound or 0):
            raise _Refusal(Code.JOURNAL_RESET)
        return cancellation_of(command)

    def _content(self, value: Mapping[str, Any]) -> Content:
        self._own_machine(value)
        try:
            return read_model(Content, value)
        except BadField as error:
            raise _Refusal(Code.BAD_FIELD, str(error)) from None

    def _why_nameless(self, value: Mapping[str, Any]) -> _Refusal:
        try:
            self._content(value)
        except _Refusal as refusal:
            return refusal
        return _Refusal(Code.BAD_FIELD)

    async def _known_or_new(
        self, content: Content, value: Mapping[str, Any], *, retained: bool
    ) -> Disposition:
        times = _times(value)
        order = order_of(content, times or _NO_TIMES, self.settings.order_ttl_s)
        try:
            standing = await self.journal.look_up(order)
        except JournalError:
            return await self._past_the_journal(order, Code.JOURNAL_UNWRITABLE, Executed.UNKNOWN)
        if standing in {Standing.SAME, Standing.REJECTED}:
            return await self._replay(order)
        if standing is Standing.CONFLICT:
            return await self._reject(order, Rejection(Code.CONFLICT, ""), Executed.UNKNOWN)
        remembered = times is not None and times.issued_at >= (self.journal.bound or 0)
        executed = Executed.NO if remembered else Executed.UNKNOWN
        if standing is Standing.TOMBSTONE:
            return await self._reject(order, Rejection(Code.CANCELLED, ""), executed)
        rejection = self._judge(order, value, readable_times=times is not None, retained=retained)
        if rejection is None:
            try:
                rejection = await self.desk.submit(order)
            except JournalError as trouble:
                rejection = Rejection(Code.JOURNAL_UNWRITABLE, "")
                if isinstance(trouble, JournalUncertain):
                    executed = Executed.UNKNOWN  # a crash may make it an accepted order yet
        if rejection is not None:
            if rejection.code in MAY_HAVE_BEEN_EXECUTED:
                executed = Executed.UNKNOWN
            return await self._reject(order, rejection, executed)
        self.counters["accepted"] += 1
        say(logging.INFO, "order_accepted", order=str(order.key), units=order.units)
        return Disposition.ACKNOWLEDGE

    def _judge(
        self, order: Order, value: Mapping[str, Any], *, readable_times: bool, retained: bool
    ) -> Rejection | None:
        """What can be said without the heart about a command that the journal does not know."""
        if retained:
            return Rejection(Code.RETAINED, "")
        if self.journal.birth is None or not self.clock.believed():
            return Rejection(Code.CLOCK_UNSET, "")
        if not readable_times:
            return Rejection(Code.BAD_FIELD, _complaint_about_times(value))
        now = self.clock.wall()
        if order.issued_at < (self.journal.bound or 0):
            return Rejection(Code.JOURNAL_RESET, "")
        if order.issued_at > now + self.settings.skew_s:
            return Rejection(Code.NOT_YET_VALID, "")
        if now > order.expires_at:
            return Rejection(Code.EXPIRED, "")
        if order.units > self.settings.max_units:
            limit = self.settings.max_units
            return Rejection(Code.TOO_MANY_UNITS, f"{order.units} units, the limit is {limit}.")
        return None

    # ------------------------------------------------------------------ answers

    async def _replay(self, order: Order) -> Disposition:
        try:
            await self.journal.replay(order)
        except JournalError:
            # A known command is never answered with a rejection: it is answered later.
            return Disposition.LEAVE
        self.counters["replayed"] += 1
        say(logging.INFO, "order_replayed", order=str(order.key))
        return Disposition.ACKNOWLEDGE

    async def _refuse_unreadable(
        self, key: OrderKey, value: Mapping[str, Any], refusal: _Refusal
    ) -> Disposition:
        """An identity without readable content. It cannot be the content of a known command,
        so nothing of *this* command moved; of a known one nothing is said."""
        issued_at = issued_at_of(value) or 0
        probe = Order(key, trade_id_of(value), issued_at, 0, ())
        rejection = Rejection(refusal.code, refusal.detail)
        try:
            standing = await self.journal.look_up(probe)
        except JournalError:
            return await self._past_the_journal(probe, refusal.code, Executed.UNKNOWN)
        if standing is Standing.REJECTED:
            return await self._replay(probe)
        known = standing in {Standing.SAME, Standing.CONFLICT}
        return await self._reject(probe, rejection, Executed.UNKNOWN if known else Executed.NO)

    async def _reject(self, order: Order, rejection: Rejection, executed: Executed) -> Disposition:
        """Stored and published; past the journal where it cannot be."""
        told = Rejection(rejection.code, rejection.message or CODES[rejection.code].en)
        if self.journal.birth is None or told.code is Code.JOURNAL_UNWRITABLE:
            return await self._past_the_journal(order, told.code, executed, told.message)
        try:
            stored = await self.journal.reject(
                order.key,
                order.trade_id,
                order.issued_at,
                told,
                executed=executed,
                units=order.units,
            )
        except JournalError:
            return await self._past_the_journal(order, told.code, executed, told.message)
        if not stored:
            return await self._past_the_journal(
                order, told.code, executed, told.message, logged=False
            )
        self._note("dispense", told.code, order.key, told.message, published=True)
        return Disposition.ACKNOWLEDGE

    async def _past_the_journal(
        self,
        order: Order,
        code: Code,
        executed: Executed,
        message: str = "",
        *,
        logged: bool = True,
    ) -> Disposition:
        """`logged` False: of a flood, which must not fill the log either."""
        facts = OrderFacts(
            key=order.key,
            trade_id=order.trade_id,
            status=OrderStatus.REJECTED,
            code=code.value,
            message=message or CODES[code].en,
            executed=executed,
            units=order.units,
            delivered=0,
            not_delivered=0,
            unknown=0,
            revision=0,
            at=self.clock.wall(),
        )
        heard = await self.publish_now("order", self.payloads.order(facts, None, None))
        self._note("dispense", code, order.key, facts.message, published=heard and logged)
        return Disposition.ACKNOWLEDGE if heard else Disposition.LEAVE

    async def _refuse_nameless(
        self, topic: str, refusal: _Refusal, key: OrderKey | None = None
    ) -> Disposition:
        granted = refusal.code in OWN_TROUBLE or self._events.grant(self.clock.monotonic())
        message = refusal.detail or CODES[refusal.code].en
        self._note(topic, refusal.code, key, message, published=granted)
        if not granted:
            return Disposition.ACKNOWLEDGE
        detail: dict[str, Any] = {
            "topic": topic,
            "code": refusal.code.value,
            "message": message,
            "suppressed": self._events.told(),
        }
        if key is not None:
            detail |= {"order_id": key.order_id, "delivery_id": key.delivery_id}
        kind = f"{topic}_rejected"
        try:
            if self.journal.birth is not None:
                await self.journal.event(kind, detail)
                return Disposition.ACKNOWLEDGE
        except JournalError:
            pass
        payload = self.payloads.event(kind, detail, None, None, self.clock.wall())
        heard = await self.publish_now("event", payload)
        return Disposition.ACKNOWLEDGE if heard else Disposition.LEAVE

    def _note(
        self, topic: str, code: Code, key: OrderKey | None, message: str, *, published: bool
    ) -> None:
        self.counters[f"{topic}_{code.value}"] += 1
        if published:
            say(
                logging.WARNING,
                f"{topic}_rejected",
                code=code.value,
                order="" if key is None else str(key),
                message=message,
            )


class _Refusal(Exception):
    """Carries a code from a check to where it is answered."""

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(code.value)
        self.code = code
        self.detail = detail


_NO_TIMES = Times.model_construct(issued_at=0, expires_at=None)


def _times(value: Mapping[str, Any]) -> Times | None:
    try:
        return read_model(Times, value)
    except BadField:
        return None


def _complaint_about_times(value: Mapping[str, Any]) -> str:
    try:
        read_model(Times, value)
    except BadField as error:
        return str(error)
    return ""
