"""One TOML file -> frozen settings. A mistake is told with its place and what is expected there."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MachineNo = Annotated[str, Field(pattern=r"^[0-9]{8}$")]
ChannelName = Annotated[str, Field(pattern=r"^[A-Z][1-9][0-9]{0,2}$")]


class BadSettings(Exception):
    """For the person who wrote the file."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Http(_Part):
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8280
    """0: any free one; the log says which."""


class Mqtt(_Part):
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 1883
    prefix: str = "vending/v1"
    client_id: str = "platform-sim"
    """The broker keeps our session, and what came while we were away, under this name."""
    username: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    share_group: str = ""
    """Of a shared subscription for result, order and event; empty: a subscription of our own."""


class Callbacks(_Part):
    allowed_hosts: tuple[str, ...] = ()
    """Names, addresses or networks that a notify_url may name although they are not public."""


class Rules(_Part):
    """Times of the platform's documents, in seconds; facts in docs/platform.md."""

    unpaid_s: Annotated[float, Field(gt=0)] = 1200.0
    """An order that is not paid by then is void, and its stock goes back."""
    backstop_s: Annotated[float, Field(gt=0)] = 120.0
    """Without an answer so long after the command went out, a delivery has timed out."""
    command_ttl_s: Annotated[float, Field(gt=0)] = 90.0
    """Life of a command: below the backstop, so that nothing moves behind it."""
    lock_belt_s: Annotated[float, Field(gt=0)] = 90.0
    lock_motor_s: Annotated[float, Field(gt=0)] = 30.0
    lock_lock_s: Annotated[float, Field(gt=0)] = 15.0
    lock_other_s: Annotated[float, Field(gt=0)] = 45.0
    queue: Annotated[int, Field(ge=1)] = 50
    """Deliveries that may wait for a machine's lock; further ones are refused as busy."""
    units_per_line: Annotated[int, Field(ge=1, le=50)] = 50
    """The MQTT contract allows 50 a line."""
    retention_days: Annotated[int, Field(ge=1)] = 90
    """Ended orders and told callbacks are kept so long."""

    @model_validator(mode="after")
    def _inside(self) -> Rules:
        if self.command_ttl_s >= self.backstop_s:
            raise ValueError("command_ttl_s must be less than backstop_s")
        return self


class Merchant(_Part):
    appid: Annotated[str, Field(min_length=1)]
    secret: Annotated[str, Field(min_length=1)]
    sign_key: Annotated[str, Field(min_length=1)]
    """The KEY of the signature: the documents name four different ones, so it is a setting."""
    sign_encoding: Literal["raw", "url"] = "raw"
    """How values stand in the signed text: the vendor's own libraries differ."""
    sign_max_age_s: Annotated[float, Field(gt=0)] | None = None
    """How old a signed payload may be. None: any age, as no window is documented."""
    debug: bool = False
    """The platform's debug switch: online or not does not matter."""


class CabinetPlan(_Part):
    name: Annotated[str, Field(pattern=r"^[A-Z]$")]
    kind: Literal["belt", "motor", "lock", "other"] = "motor"
    light_eye: bool = False


class ProductPlan(_Part):
    product_id: Annotated[int, Field(gt=0, le=(1 << 31) - 1)]
    channel: ChannelName
    title: str = ""
    price: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]{2}$")] = "3.00"
    category_id: Annotated[int, Field(ge=0)] = 1
    capacity: Annotated[int, Field(ge=1, le=999)] = 8
    stock: Annotated[int, Field(ge=0, le=999)] = 0
    on_sale: bool = True


class MachinePlan(_Part):
    machine_no: MachineNo
    appid: str
    name: str = ""
    address: str = ""
    operating: Literal["OPERATIONAL", "MAINTENANCE", "TRANSFER"] = "OPERATIONAL"
    cabinets: tuple[CabinetPlan, ...]
    products: tuple[ProductPlan, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> MachinePlan:
        names = {cabinet.name for cabinet in self.cabinets}
        seen: set[int] = set()
        for product in self.products:
            if product.channel[0] not in names:
                raise ValueError(f"channel {product.channel} is in no cabinet of the machine")
            if product.product_id in seen:
                raise ValueError(f"product_id {product.product_id} stands there twice")
            if product.stock > product.capacity:
                raise ValueError(f"product_id {product.product_id}: stock is above its capacity")
            seen.add(product.product_id)
        return self


class Settings(_Part):
    database: Path
    """Orders, deliveries and callbacks live here."""
    http: Http = Http()
    mqtt: Mqtt = Mqtt()
    callbacks: Callbacks = Callbacks()
    rules: Rules = Rules()
    merchants: Annotated[tuple[Merchant, ...], Field(min_length=1)]
    machines: tuple[MachinePlan, ...] = ()

    @model_validator(mode="after")
    def _known(self) -> Settings:
        appids = [merchant.appid for merchant in self.merchants]
        numbers = [machine.machine_no for machine in self.machines]
        for what, values in (("appid", appids), ("machine_no", numbers)):
            if twice := {value for value in values if values.count(value) > 1}:
                raise ValueError(f"{what} stands there twice: {', '.join(sorted(twice))}")
        for machine in self.machines:
            if machine.appid not in appids:
                raise ValueError(f"machine {machine.machine_no}: no merchant {machine.appid}")
        return self


def load(file: Path) -> Settings:
    """Raises BadSettings. Relative paths are relative to the file."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSettings(f"{file}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"{file}: {error}") from None
    try:
        settings = Settings.model_validate(table)
    except ValidationError as error:
        lines = [
            f"{file}: {'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        ]
        raise BadSettings("\n".join(lines)) from None
    return settings.model_copy(update={"database": file.parent / settings.database})
