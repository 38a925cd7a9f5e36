"""`request/{verb}`: questions, and acts that the settings allow (`remote`), answered on
`response/{verb}`.

The answer goes to the MQTT 5 response topic instead, with the correlation data, when
the request named one that we may write to: below our own `response/`, or below
`{prefix}/reply/`, which no machine_no can be. Anything else would let whoever may ask
us also speak in our name (`…/result`), or to another machine (`…/dispense`); such a
topic is ignored and the answer goes to `response/{verb}`.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from controller.codes import ResponseCode, coded, meaning
from controller.dispensing.interfaces import Clock
from controller.errors import ControllerError
from controller.model import Code, OrderKey
from controller.uplink.allowance import Allowance
from controller.uplink.commands import UNPRINTABLE, BadField, Request, ResultsRequest, read_model
from controller.uplink.jsontext import BadJson, read_object
from controller.uplink.link import Inbound, MqttSettings
from controller.uplink.logs import say
from controller.uplink.messages import Payloads, joined_page
from controller.uplink.presence import MachineView
from controller.uplink.remote import ACTS, Remote
from controller.uplink.session import Session

ANSWERS_AT_ONCE = 20
ANSWER_PERIOD_S = 0.2
"""A page of results is read from the disk that dispensing needs: five answers a second are
plenty for a platform that reconciles, and nothing to the disk."""

PAGE_BYTES = 48 * 1024
"""Stored payloads of one page, but always at least one. Some brokers take 128 KiB, few less."""

NOT_KNOWN = "This machine does not know the order; should it still come, it is judged as any other."
"""The code's own words promise a refusal, which only a cancel brings about."""

LONGEST_RESPONSE_TOPIC = 256
LONGEST_CORRELATION = 256

_VERB = re.compile(r"[a-z][a-z.]{0,31}")


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A `result` or `order` message as it was given its number."""

    topic: str
    journal: int
    seq: int
    payload: bytes


class Reports(Protocol):
    """The journal, as answers to requests need it. Both raise JournalError."""

    async def of_order(
        self, key: OrderKey, after: tuple[int, int], limit: int
    ) -> Sequence[StoredMessage] | None:
        """Messages of one command after (journal, seq), in that order; None: unknown command."""
        ...

    async def since(self, after: tuple[int, int], limit: int) -> Sequence[StoredMessage]:
        """All messages after (journal, seq), ordered by that pair."""
        ...


@dataclass(frozen=True, slots=True)
class _Answer:
    code: Code | ResponseCode = Code.OK
    message: str = ""
    request_id: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    messages: Sequence[bytes] | None = None
    """Payloads to put, as they are, into the list that ends `data`."""


Answering = Callable[[Mapping[str, Any]], Awaitable[_Answer]]


@dataclass(slots=True)
class Requests:
    """Answers what arrives on `request/+`. `counters` has one count per verb or trouble."""

    session: Session
    view: MachineView
    reports: Reports
    payloads: Payloads
    clock: Clock
    remote: Remote
    counters: Counter[str] = field(default_factory=Counter)
    _allowance: Allowance = field(
        default_factory=lambda: Allowance(ANSWERS_AT_ONCE, ANSWER_PERIOD_S)
    )

    async def handle(self, message: Inbound) -> None:
        """Answer one request; over the rate limit it is only counted."""
        if not self._allowance.grant(self.clock.monotonic()):
            self.counters["suppressed"] += 1
            return
        asked = message.topic.removeprefix(f"{self.session.settings.root}/request/")
        verb = asked if _VERB.fullmatch(asked) else "invalid"
        answer = await self._answer(verb, message)
        known = verb in self._verbs or verb in self.remote.allowed
        self.counters[verb if known else "refused"] += 1
        if answer.messages is None and answer.code is not Code.OK:
            say(logging.WARNING, "request_refused", verb=verb, code=answer.code.value)
        await self._send(verb, message, answer)

    @property
    def _verbs(self) -> Mapping[str, Answering]:
        return {
            "status": self._status,
            "inventory": self._inventory,
            "results": self._results,
            "diagnostics": self._diagnostics,
        }

    async def _answer(self, verb: str, message: Inbound) -> _Answer:
        if message.retained:
            return _Answer(Code.RETAINED)
        acts = verb in ACTS
        if acts and verb not in self.remote.allowed:
            return _Answer(ResponseCode.NOT_ALLOWED)
        answering = partial(self._act, verb) if acts else self._verbs.get(verb)
        if answering is None:
            return _Answer(ResponseCode.UNKNOWN_VERB)
        if message.payload is None:
            return _Answer(Code.TOO_LARGE)
        try:
            return await answering(read_object(message.payload or b"{}"))
        except BadJson as error:
            return _Answer(Code.BAD_JSON, str(error))
        except BadField as error:
            return _Answer(Code.BAD_FIELD, str(error))
        except ControllerError as error:
            return _Answer(ResponseCode.UNAVAILABLE, str(error)[:200])

    # ------------------------------------------------------------------ the verbs

    async def _status(self, value: Mapping[str, Any]) -> _Answer:
        request = read_model(Request, value)
        return _Answer(request_id=request.request_id, data=self.view.state())

    async def _inventory(self, value: Mapping[str, Any]) -> _Answer:
        request = read_model(Request, value)
        return _Answer(request_id=request.request_id, data=self.view.inventory())

    async def _diagnostics(self, value: Mapping[str, Any]) -> _Answer:
        request = read_model(Request, value)
        return _Answer(request_id=request.request_id, data=await self.remote.hand.diagnostics())

    async def _act(self, verb: str, value: Mapping[str, Any]) -> _Answer:
        told = await self.remote.answer(verb, value)
        return _Answer(coded(told.code), told.message, str(value["request_id"]), told.data)

    async def _results(self, value: Mapping[str, Any]) -> _Answer:
        request = read_model(ResultsRequest, value)
        after = (request.journal, request.seq)
        found: Sequence[StoredMessage] | None
        if request.order_id is None:
            found = await self.reports.since(after, request.limit + 1)
        else:
            key = OrderKey(request.order_id, request.delivery_id)
            found = await self.reports.of_order(key, after, request.limit + 1)
        if found is None:
            return _Answer(Code.UNKNOWN_ORDER, NOT_KNOWN, request_id=request.request_id)
        # A command always has a message, until its details are past the retention.
        pruned = request.order_id is not None and not found and after == (0, 0)
        page = _page(found, request.limit)
        more = len(page) < len(found)
        following = {"journal": page[-1].journal, "seq": page[-1].seq} if more else None
        return _Answer(
            Code.RESULTS_PRUNED if pruned else Code.OK,
            request_id=request.request_id,
            data={"next": following, "topics": [row.topic for row in page], "messages": []},
            messages=[row.payload for row in page],
        )

    # ------------------------------------------------------------------ the answer

    async def _send(self, verb: str, message: Inbound, answer: _Answer) -> None:
        payload = self.payloads.response(
            verb,
            answer.request_id,
            answer.code.value,
            answer.message or meaning(answer.code).en,
            self.clock.wall(),
            answer.data,
        )
        if answer.messages is not None:
            payload = joined_page(payload, answer.messages)
        settings = self.session.settings
        topic = f"{settings.root}/response/{verb}"
        properties: dict[str, Any] = {}
        if message.correlation and len(message.correlation) <= LONGEST_CORRELATION:
            properties["CorrelationData"] = message.correlation
        if message.response_topic:
            if may_write_to(message.response_topic, settings):
                topic = message.response_topic
            else:
                self.counters["response_topics_ignored"] += 1
        await self.session.publish(topic, payload, properties=properties)


def _page(found: Sequence[StoredMessage], limit: int) -> Sequence[StoredMessage]:
    """As many of the first `limit` as fit into PAGE_BYTES, but at least one."""
    size = 0
    for count, row in enumerate(found[:limit]):
        size += len(row.payload)
        if size > PAGE_BYTES and count:
            return found[:count]
    return found[:limit]


def may_write_to(topic: str, settings: MqttSettings) -> bool:
    """Whether a peer's response topic is one that answers may go to."""
    allowed = (f"{settings.root}/response/", f"{settings.prefix}/reply/")
    return (
        len(topic) <= LONGEST_RESPONSE_TOPIC
        and topic.startswith(allowed)
        and not UNPRINTABLE.search(topic)
        and "+" not in topic
        and "#" not in topic
    )
