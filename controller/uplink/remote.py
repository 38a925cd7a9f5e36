"""Acting requests: what the platform may do to a machine from afar, verb by verb.

Each is off unless the settings name it. What is carried out is what `vendctl` carries out, by
the same code. A request has an identity (`request_id`) and is carried out at most once: it is
claimed in the journal before anything is done, and what came of it is stored. Asked again
with the same content it gets the stored answer; where the daemon died in between, nobody
knows whether it was done, and the answer says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import AfterValidator, Field, StringConstraints

from controller.codes import ResponseCode, meaning
from controller.dispensing.interfaces import Clock, RequestJournal, RequestTold
from controller.errors import JournalError, Refused
from controller.model import Code
from controller.uplink.commands import BadField, Channel, Id, Request, one_line, read_model

LONGEST_LIFE_S = 60
"""The contract's: a hand's act that comes later than a minute surprises whoever stands there."""

Reason = Annotated[str, StringConstraints(max_length=200), AfterValidator(one_line)]


class Acting(Request):
    """What every request that changes something carries. Unix seconds."""

    request_id: Annotated[
        str, StringConstraints(min_length=1, max_length=64), AfterValidator(one_line)
    ]
    issued_at: Id
    expires_at: Id


class LaneActing(Acting):
    channel: Channel
    reason: Reason = ""


class StockSet(Acting):
    """An empty lane is counted by a zero that is said: a field that was lost is no count."""

    said: ClassVar[frozenset[str]] = frozenset({"stock"})

    channel: Channel
    stock: Annotated[int, Field(strict=True, ge=0, le=10_000)]


class ModeSet(Acting):
    mode: Literal["ready", "service"]


ACTS: Mapping[str, type[Acting]] = {
    "stock.set": StockSet,
    "lane.enable": LaneActing,
    "lane.disable": LaneActing,
    "mode.set": ModeSet,
    "lane.test": LaneActing,
}
"""Verb -> its payload."""


class Hand(Protocol):
    """Who carries it out. Raises Refused, JournalError."""

    async def diagnostics(self) -> Mapping[str, Any]: ...

    async def perform(self, verb: str, asked: Acting) -> Mapping[str, Any]: ...


@dataclass(slots=True)
class Remote:
    """`allowed`: the verbs that the settings name."""

    hand: Hand
    journal: RequestJournal
    clock: Clock
    allowed: Sequence[str] = ()
    skew_s: int = 30

    async def answer(self, verb: str, value: Mapping[str, Any]) -> RequestTold:
        """Raises BadField."""
        asked = read_model(ACTS[verb], value)
        if asked.expires_at - asked.issued_at > LONGEST_LIFE_S:
            raise BadField(f"expires_at: more than {LONGEST_LIFE_S} s after issued_at")
        content = f"{verb} {asked.model_dump_json(exclude={'issued_at', 'expires_at'})}"
        late = self._untimely(asked)
        try:
            # What was done stays done, however late it is asked again: `expired` would deny it.
            if late is None:
                known = await self.journal.claim_request(asked.request_id, content)
            elif (known := await self.journal.known_request(asked.request_id, content)) is None:
                return _coded(late)
        except JournalError:
            return _coded(Code.JOURNAL_UNWRITABLE)
        if known is not None:
            if not known.same:
                return _coded(Code.CONFLICT)
            return known.told or _coded(ResponseCode.INTERRUPTED)
        told = await self._perform(verb, asked)
        await self._settle(asked.request_id, told)
        return told

    def _untimely(self, asked: Acting) -> Code | None:
        if self.journal.birth is None or not self.clock.believed():
            return Code.CLOCK_UNSET
        now = self.clock.wall()
        if asked.issued_at > now + self.skew_s:
            return Code.NOT_YET_VALID
        return Code.EXPIRED if now > asked.expires_at else None

    async def _perform(self, verb: str, asked: Acting) -> RequestTold:
        try:
            done = await self.hand.perform(verb, asked)
        except Refused as refusal:
            return RequestTold(ResponseCode.REFUSED.value, str(refusal), {"error": refusal.code})
        except JournalError as trouble:
            return RequestTold(Code.JOURNAL_UNWRITABLE.value, str(trouble)[:200])
        return RequestTold(Code.OK.value, meaning(Code.OK).en, done)

    async def _settle(self, request_id: str, told: RequestTold) -> None:
        try:
            await self.journal.settle_request(request_id, told)
        except JournalError:
            return  # a repeat will hear that its end is not known


def _coded(code: Code | ResponseCode) -> RequestTold:
    return RequestTold(code.value, meaning(code).en)
