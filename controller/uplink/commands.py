"""What the platform says to the machine: the models of incoming payloads, and their reading.

The platform's encoder leaves out what is empty, zero or false, so an absent
field, null and a zero value are one and the same here. Unknown fields are
ignored. Identity, content and times of a command are read apart, because the
identity is judged first: a command that was executed is answered with its
results even when its times make no sense any more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from controller.dispensing.interfaces import Cancellation
from controller.model import CHANNEL, Order, OrderKey, OrderLine, canonical_channel

LARGEST = 2**63 - 1
"""SQLite's largest integer; every number of a command must fit."""

MAX_LINES = 50
MAX_QUANTITY = 50

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_DIGITS = re.compile(r"[0-9]{1,19}")


class BadField(ValueError):
    """A field is missing, of the wrong type, or out of range. The message names it."""


def _number(value: Any) -> Any:
    """A string of ASCII digits is a number where the platform's own API mixes both."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return value


def _number_or_none(value: Any) -> Any:
    number = _number(value)
    return None if number == 0 and not isinstance(number, (bool, float)) else number


def one_line(text: str) -> str:
    """Refuses control characters and halves of surrogates: an id is printed and stored as UTF-8."""
    if UNPRINTABLE.search(text):
        raise ValueError("must not hold control characters or halves of surrogates")
    return text


Integer = Annotated[int, Field(strict=True, gt=0, le=LARGEST)]
_DigitText = Annotated[str, Field(pattern="^[0-9]{1,19}$")]
Id = Annotated[Integer, BeforeValidator(_number, json_schema_input_type=Integer | _DigitText)]
OptionalId = Annotated[
    Integer | None,
    BeforeValidator(_number_or_none, json_schema_input_type=int | _DigitText | None),
]
Count = Annotated[
    Annotated[int, Field(strict=True, ge=0, le=LARGEST)],
    BeforeValidator(_number, json_schema_input_type=int | _DigitText),
]


def _shown(pattern: str) -> dict[str, JsonValue]:
    """A rule that a function below checks, as a JSON Schema can say it to a sender."""
    return {"pattern": pattern}


_PRINTABLE = _shown(r"^[^\u0000-\u001f\u007f-\u009f]*$")
_LETTER_AND_NUMBER = _shown(f"^{CHANNEL.pattern}$")
DeliveryId = Annotated[
    str, Field(max_length=32, json_schema_extra=_PRINTABLE), AfterValidator(one_line)
]
TradeId = Annotated[
    str, Field(min_length=1, max_length=64, json_schema_extra=_PRINTABLE), AfterValidator(one_line)
]
Channel = Annotated[
    str,
    Field(max_length=16, json_schema_extra=_LETTER_AND_NUMBER),
    AfterValidator(canonical_channel),
]


def is_zero(value: Any) -> bool:
    """What the platform's encoder leaves out; -0.0 and 0.0 are no zero of a field of ours."""
    return (
        value is None
        or value is False
        or (isinstance(value, (str, list, dict)) and not value)
        or (isinstance(value, int) and value == 0)
    )


class Incoming(BaseModel):
    """Base of what we read: strict types, absent == null == zero, unknown fields ignored."""

    said: ClassVar[frozenset[str]] = frozenset()
    """Fields whose zero must be said, for it means something that silence doesn't."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _drop_zero_values(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {n: item for n, item in value.items() if n in cls.said or not is_zero(item)}


class Identity(Incoming):
    """(order_id, delivery_id or "") names a command for ever."""

    order_id: Id
    delivery_id: DeliveryId = ""

    def key(self) -> OrderKey:
        return OrderKey(self.order_id, self.delivery_id)


class Product(Incoming):
    """A line of an order: `quantity` units of a product, from any lane or from `channel` only."""

    product_id: Integer
    quantity: Annotated[int, Field(strict=True, ge=1, le=MAX_QUANTITY)]
    channel: Channel | None = None
    record_id: OptionalId = None


class Content(Identity):
    """What two commands must have in common to be the same command."""

    trade_id: TradeId
    products: Annotated[list[Product], Field(min_length=1, max_length=MAX_LINES)]


class Times(Incoming):
    """Unix seconds."""

    issued_at: Id
    expires_at: OptionalId = None


class DispenseCommand(Content, Times):
    """`…/dispense`: turn the motors for these products, once."""

    machine_no: str = Field(default="", description="when present: the topic's machine_no")


class CancelCommand(Identity):
    """`…/cancel`: end the units of an order that have not started."""

    trade_id: TradeId
    issued_at: Id
    machine_no: str = Field(default="", description="when present: the topic's machine_no")


class Since(Incoming):
    """A place in the stream of `result` and `order` messages: what comes after it is wanted."""

    journal: Count = 0
    seq: Count = 0


class Request(Incoming):
    """`…/request/{verb}`, any verb: an id that the answer repeats."""

    request_id: Annotated[str, Field(max_length=64), AfterValidator(one_line)] = ""


class ResultsRequest(Request, Since):
    """`…/request/results`: the stored messages of one order, or of all after (journal, seq)."""

    order_id: OptionalId = None
    delivery_id: DeliveryId = ""
    limit: Annotated[int, Field(strict=True, ge=1, le=200)] = 50


class _Trade(Incoming):
    trade_id: TradeId


class _Issued(Incoming):
    issued_at: Id


M = TypeVar("M", bound=Incoming)


def first_complaint(error: ValidationError) -> str:
    """`products.1.quantity: Input should be a valid integer`. Never the peer's own text."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}"[:160] if place else first["msg"][:160]


def read_model(model: type[M], value: Mapping[str, Any]) -> M:
    """`value` as that model. Raises BadField with the first complaint."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise BadField(first_complaint(error)) from None


def identity_of(value: Mapping[str, Any]) -> OrderKey | None:
    """The command's identity, when at least that can be read."""
    try:
        return read_model(Identity, value).key()
    except BadField:
        return None


def trade_id_of(value: Mapping[str, Any]) -> str:
    """Its trade_id when that can be read, else the empty string."""
    try:
        return read_model(_Trade, value).trade_id
    except BadField:
        return ""


def issued_at_of(value: Mapping[str, Any]) -> int | None:
    """Its issued_at when that can be read."""
    try:
        return read_model(_Issued, value).issued_at
    except BadField:
        return None


def order_lines(content: Content) -> tuple[OrderLine, ...]:
    return tuple(
        OrderLine(item.product_id, item.quantity, item.channel, item.record_id)
        for item in content.products
    )


def order_of(content: Content, times: Times, order_ttl_s: int) -> Order:
    """The order as the heart knows it; `expires_at` defaults to issued_at + order_ttl_s."""
    expires_at = times.expires_at or min(times.issued_at + order_ttl_s, LARGEST)
    return Order(content.key(), content.trade_id, times.issued_at, expires_at, order_lines(content))


def cancellation_of(command: CancelCommand) -> Cancellation:
    return Cancellation(command.key(), command.trade_id, command.issued_at)
