"""What the machine says to the platform: the models of outgoing payloads, and their bytes.

The models are the contract: JSON Schemas are generated from them (`json_schemas`),
and every message is built through them. The bytes are deterministic: the same
facts give the same bytes, fields in the model's order, compact, UTF-8. Building
never raises, whatever a driver noted in `raw`: results are built inside the
transaction that closes a cycle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from controller.dispensing.interfaces import LaneState, OrderFacts, ResultFacts
from controller.model import Evidence, Executed, LaneHealth, OrderStatus, Outcome, Reason
from controller.uplink.commands import CancelCommand, DispenseCommand, Request, ResultsRequest
from controller.uplink.jsontext import plain, write

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  (UTC, as each time here)
_LAST_MS = 253_402_300_799_999
"""The end of the year 9999: what a datetime can hold."""


def iso_ms(unix_seconds: float) -> str:
    """`2026-11-23T09:30:00.120Z`; a time that no calendar knows is moved to its nearest end."""
    bounded = min(max(unix_seconds, 0.0), _LAST_MS / 1000)
    moment = _EPOCH + timedelta(milliseconds=min(round(bounded * 1000), _LAST_MS))
    return moment.isoformat(timespec="milliseconds") + "Z"


Time = Annotated[
    str,
    Field(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
        description="ISO 8601, UTC, with milliseconds",
    ),
]
"""What `iso_ms` gives."""


class Outgoing(BaseModel):
    """Base of what we send. `schema` is a reserved name in pydantic, hence the alias."""

    model_config = ConfigDict(
        frozen=True,
        populate_by_name=True,
        # nothing is ever left out, also where a field has a default
        json_schema_serialization_defaults_required=True,
    )

    schema_: Literal[1] = Field(default=1, alias="schema")
    machine_no: str = Field(pattern="^[0-9]{8}$")


class Numbered(Outgoing):
    """A message that is never dropped. `seq` grows by one per message of a journal.

    Both are null when the message was published past a journal that cannot be written.
    """

    journal: int | None = Field(description="the journal's birth, Unix seconds")
    seq: int | None


class ResultMessage(Numbered):
    """`…/result`: what became of one unit."""

    order_id: int
    delivery_id: str
    trade_id: str
    record_id: int | None
    unit: int = Field(ge=1)
    units: int = Field(ge=1)
    revision: int = Field(ge=1)
    product_id: int
    channel: str
    cabinet: str
    outcome: Outcome
    reason: Reason | None
    evidence: Evidence
    lane_health: LaneHealth
    raw: dict[str, Any] = Field(description="the board's own words, for people")
    late: bool
    cycles: int
    started_at: Time | None
    finished_at: Time


class OrderMessage(Numbered):
    """`…/order`: what became of a command as a whole."""

    order_id: int
    delivery_id: str
    trade_id: str
    status: OrderStatus
    code: str | None
    message: str
    command_executed: Executed
    units: int
    delivered: int
    not_delivered: int
    unknown: int
    revision: int
    at: Time


class EventMessage(Outgoing):
    """`…/event`: something happened that is no result. Numbered by its own `event_seq`."""

    journal: int | None
    event_seq: int | None
    kind: str
    detail: dict[str, Any]
    lost: int = Field(default=0, description="kind `lost`: how many older events were dropped")
    at: Time


class LaneEntry(BaseModel):
    """One lane; stock + gone + uncertain + adjusted = loaded."""

    model_config = ConfigDict(frozen=True)

    channel: str
    cabinet: str
    product_id: int
    capacity: int
    stock: int
    reserved: int
    gone: int
    uncertain: int
    adjusted: int
    loaded: int
    health: LaneHealth
    health_reason: str
    failures: int
    cycles: int


class InventoryMessage(Outgoing):
    """`…/inventory`, retained: every lane as the journal counts it."""

    journal: int | None
    lanes: list[LaneEntry]
    at: Time


Mode = Literal["ready", "dispensing", "degraded", "service", "out_of_service"]


class StateMessage(Outgoing):
    """`…/state`, retained: the machine at a glance. The last will has `online` false."""

    online: bool
    mode: Mode
    boot_id: str
    journal: int | None
    last_seq: int | None
    last_event_seq: int = Field(description="of the newest event; in the will as at connect")
    since: Time = Field(description="when this run of the program began")
    version: str
    boards: dict[str, Any]
    cabinets: dict[str, Any]
    outbox: int = Field(description="messages that still have to leave")
    last_stop: Literal["clean", "crash", "power", "watchdog"]


class TelemetryMessage(Outgoing):
    """`…/telemetry`: heartbeat and counters; may be lost."""

    uptime_s: int
    counters: dict[str, Any]
    at: Time


class ResponseMessage(Outgoing):
    """`…/response/{verb}`: the answer to a request."""

    verb: str
    request_id: str
    code: str
    message: str
    at: Time
    data: dict[str, Any]


def _bytes(message: BaseModel) -> bytes:
    return write(plain(message.model_dump(by_alias=True, warnings=False)))


def _mapping(value: Any) -> dict[str, Any]:
    return dict(plain(value)) if isinstance(value, Mapping) else {}


@dataclass(frozen=True, slots=True)
class Payloads:
    """Builds the bytes of everything that this machine publishes (implements Announcer)."""

    machine_no: str

    def result(self, facts: ResultFacts, journal: int, seq: int) -> bytes:
        return _bytes(
            ResultMessage.model_construct(
                machine_no=self.machine_no,
                journal=journal,
                seq=seq,
                order_id=facts.key.order_id,
                delivery_id=facts.key.delivery_id,
                trade_id=facts.trade_id,
                record_id=facts.record_id,
                unit=facts.unit,
                units=facts.units,
                revision=facts.revision,
                product_id=facts.product_id,
                channel=facts.channel,
                cabinet=facts.channel[:1],
                outcome=facts.outcome,
                reason=facts.reason,
                evidence=facts.evidence,
                lane_health=facts.lane_health,
                raw=_mapping(facts.raw),
                late=facts.late,
                cycles=facts.cycles,
                started_at=None if facts.started_at is None else iso_ms(facts.started_at),
                finished_at=iso_ms(facts.finished_at),
            )
        )

    def order(self, facts: OrderFacts, journal: int | None, seq: int | None) -> bytes:
        return _bytes(
            OrderMessage.model_construct(
                machine_no=self.machine_no,
                journal=journal,
                seq=seq,
                order_id=facts.key.order_id,
                delivery_id=facts.key.delivery_id,
                trade_id=facts.trade_id,
                status=facts.status,
                code=facts.code,
                message=facts.message,
                command_executed=facts.executed,
                units=facts.units,
                delivered=facts.delivered,
                not_delivered=facts.not_delivered,
                unknown=facts.unknown,
                revision=facts.revision,
                at=iso_ms(facts.at),
            )
        )

    def event(
        self,
        kind: str,
        detail: Mapping[str, Any],
        journal: int | None,
        event_seq: int | None,
        at: float,
    ) -> bytes:
        """An event of kind `lost` says by its detail's `count` how many older ones are gone."""
        shown = _mapping(detail)
        lost = shown.get("count", 0) if kind == "lost" else 0
        return _bytes(
            EventMessage.model_construct(
                machine_no=self.machine_no,
                journal=journal,
                event_seq=event_seq,
                kind=kind,
                detail=shown,
                lost=lost,
                at=iso_ms(at),
            )
        )

    def state(self, view: Mapping[str, Any], *, online: bool) -> bytes:
        """`view` holds the fields of StateMessage but schema, machine_no and online."""
        return _bytes(
            StateMessage.model_construct(
                machine_no=self.machine_no,
                online=online,
                **_known(StateMessage, view),
            )
        )

    def inventory(self, view: Mapping[str, Any], at: float) -> bytes:
        """`view` holds journal and lanes (see `lane_entry`)."""
        return _bytes(
            InventoryMessage.model_construct(
                machine_no=self.machine_no,
                at=iso_ms(at),
                journal=view.get("journal"),
                lanes=view.get("lanes", []),
            )
        )

    def telemetry(self, view: Mapping[str, Any], at: float) -> bytes:
        """`view` holds uptime_s and counters."""
        return _bytes(
            TelemetryMessage.model_construct(
                machine_no=self.machine_no,
                uptime_s=view.get("uptime_s", 0),
                counters=_mapping(view.get("counters")),
                at=iso_ms(at),
            )
        )

    def response(
        self,
        verb: str,
        request_id: str,
        code: str,
        message: str,
        at: float,
        data: Mapping[str, Any],
    ) -> bytes:
        return _bytes(
            ResponseMessage.model_construct(
                machine_no=self.machine_no,
                verb=verb,
                request_id=request_id,
                code=code,
                message=message,
                at=iso_ms(at),
                data=dict(data),
            )
        )


_OWN = frozenset({"schema_", "machine_no", "online"})


def _known(model: type[BaseModel], view: Mapping[str, Any]) -> dict[str, Any]:
    """The model's fields out of `view`, in the model's order; one that is missing is null."""
    return {name: view.get(name) for name in model.model_fields if name not in _OWN}


def lane_entry(state: LaneState) -> dict[str, Any]:
    """One lane of `inventory`."""
    return LaneEntry(
        channel=state.lane.channel,
        cabinet=state.lane.cabinet,
        product_id=state.lane.product_id,
        capacity=state.lane.capacity,
        stock=state.stock,
        reserved=state.reserved,
        gone=state.gone,
        uncertain=state.uncertain,
        adjusted=state.adjusted,
        loaded=state.loaded,
        health=state.health,
        health_reason=state.health_reason,
        failures=state.failures,
        cycles=state.cycles,
    ).model_dump()


INCOMING: Mapping[str, type[BaseModel]] = {
    "dispense": DispenseCommand,
    "cancel": CancelCommand,
    "request": Request,
    "request/results": ResultsRequest,
}
OUTGOING: Mapping[str, type[BaseModel]] = {
    "result": ResultMessage,
    "order": OrderMessage,
    "event": EventMessage,
    "state": StateMessage,
    "inventory": InventoryMessage,
    "telemetry": TelemetryMessage,
    "response": ResponseMessage,
}


def json_schemas() -> dict[str, dict[str, Any]]:
    """A JSON Schema per topic class (the part behind the machine's root)."""
    incoming = {
        name: model.model_json_schema(mode="validation") for name, model in INCOMING.items()
    }
    outgoing = {
        name: model.model_json_schema(mode="serialization", by_alias=True)
        for name, model in OUTGOING.items()
    }
    return incoming | outgoing


def joined_page(head: bytes, messages: Sequence[bytes]) -> bytes:
    """`head` is an object whose last value is an empty list: the stored payloads go into it
    as the bytes that they are, so that a repeat stays recognisable."""
    if not head.endswith(b"[]}}"):
        raise ValueError("the head must end with an empty list inside data")
    return head[:-3] + b",".join(messages) + b"]}}"
