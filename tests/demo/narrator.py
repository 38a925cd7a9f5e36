"""Tells what happens while it happens: MQTT messages and the emulator's ledger, in plain words."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tests.system.platform_client import Message
from tests.system.site import Site

LOOK_S = 0.02
"""Between two looks at ledger and messages: no eye sees less."""

EVENT_LENGTH = 60
"""Characters of an event's detail: a line of the play fits a screen."""

RED, GREEN, YELLOW, BLUE, BOLD, DIM = "31", "32", "33", "36", "1", "2"

Line = tuple[str, str, str]
"""Who, what, and in which colour."""

COLOUR_OF_OUTCOME = {"delivered": GREEN, "not_delivered": RED, "unknown": YELLOW}
COLOUR_OF_STATUS = {"1": GREEN, "0": RED, "5": YELLOW}


def coloured(text: str, colour: str) -> str:
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ
    return text if plain or not colour else f"\x1b[{colour}m{text}\x1b[0m"


# --------------------------------------------------------------------------- in words

LEDGER_WORDS: dict[str, tuple[str, str]] = {
    "motor_started": ("the motor of {lane} turns", BLUE),
    "motor_stopped": ("the motor of {lane} stands", BLUE),
    "product_fell": ("a product falls out of {lane}", GREEN),
    "eye_blocked": ("the light eye sees something", ""),
    "eye_clear": ("the light eye is clear", ""),
    "power_off": ("power is gone", YELLOW),
    "power_on": ("power is on", ""),
    "door_open": ("the door is open", YELLOW),
    "door_closed": ("the door is closed", ""),
}
"""What the emulator writes into its ledger and a person wants to see."""


def of_ledger(line: Mapping[str, Any], lanes: Mapping[int, str]) -> tuple[str, str] | None:
    words = LEDGER_WORDS.get(line.get("event", ""))
    if words is None:
        return None
    return words[0].format(lane=f"lane {lanes.get(line.get('lane', 0), '?')}"), words[1]


def of_result(body: Mapping[str, Any]) -> tuple[str, str]:
    why = body["reason"] or f"seen by: {body['evidence']}"
    revision = f", revision {body['revision']}" if body["revision"] > 1 else ""
    text = (
        f"result  {body['order_id']} unit {body['unit']} of {body['units']}:"
        f" {body['outcome'].upper()} ({why}), lane {body['channel']}{revision}, seq {body['seq']}"
    )
    return text, COLOUR_OF_OUTCOME.get(body["outcome"], "")


def of_order(body: Mapping[str, Any]) -> tuple[str, str]:
    text = f"order   {body['order_id']} {body['status'].upper()}"
    if body["status"] == "rejected":
        return f"{text}: {body['code']} ({body['message']})", RED
    if body["status"] == "finished":
        text += (
            f": {body['delivered']} delivered, {body['not_delivered']} not,"
            f" {body['unknown']} unknown"
        )
    return f"{text}, seq {body['seq']}", BOLD


def of_event(body: Mapping[str, Any]) -> tuple[str, str]:
    detail = ", ".join(f"{key} {value}" for key, value in body["detail"].items())
    return f"event   {body['kind']}: {detail[:EVENT_LENGTH]}", DIM


def of_state(body: Mapping[str, Any]) -> tuple[str, str]:
    return f"state   {body['mode'] if body['online'] else 'OFFLINE (the last will)'}", DIM


def of_callback(body: Mapping[str, Any]) -> tuple[str, str]:
    """What a merchant is told, in the platform's own fields."""
    fields = ("order_id", "record_id", "deliver_status", "floor_status", "error_msg")
    words = ", ".join(f"{name} {body[name] or '(empty)'}" for name in fields if name in body)
    return f"callback {words}", COLOUR_OF_STATUS.get(body["deliver_status"], "")


IN_WORDS: dict[str, Callable[[Mapping[str, Any]], tuple[str, str]]] = {
    "result": of_result,
    "order": of_order,
    "event": of_event,
    "state": of_state,
}


def of_message(message: Message) -> tuple[str, str] | None:
    words = IN_WORDS.get(message.topic)
    return words(message.json) if words else None


# --------------------------------------------------------------------------- in time


class Narrator:
    """Prints from a thread of its own what is new, until `close`."""

    def __init__(self, site: Site, told: Sequence[Mapping[str, Any]] = ()) -> None:
        """`told` grows: the callbacks that a merchant's server took."""
        self._site = site
        self._told = told
        self._told_so_far = 0
        self._begun = time.monotonic()
        self._printing = threading.Lock()
        self._looking = threading.Lock()
        self._ends = threading.Event()
        self._heard = 0
        self._read: dict[str, int] = {}
        self._mode = "?"
        self._thread = threading.Thread(target=self._follow, name="narrator", daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join(5)
            self._tell_news()

    def say(self, who: str, what: str, colour: str = "") -> None:
        """What we do ourselves, after all that happened before it."""
        self._tell_news()
        self._line(who, what, colour)

    def _line(self, who: str, what: str, colour: str) -> None:
        at = time.monotonic() - self._begun
        with self._printing:
            print(f"{at:6.1f}s  {who:11} {coloured(what, colour)}", flush=True)

    def title(self, text: str) -> None:
        """A new act. What belongs to the last one was told before."""
        self._tell_news()
        with self._printing:
            print("\n" + coloured(text, BOLD), flush=True)

    def remark(self, text: str) -> None:
        lines = [line.strip() for line in text.splitlines()]
        self.plain("\n".join(f"         {line}" for line in lines))

    def plain(self, text: str, colour: str = "") -> None:
        self._tell_news()
        with self._printing:
            print(coloured(text, colour), flush=True)

    def _follow(self) -> None:
        while not self._ends.wait(LOOK_S):
            self._tell_news()

    def _tell_news(self) -> None:
        with self._looking:
            for who, what, colour in self._news():
                self._line(who, what, colour)

    def _news(self) -> Iterable[Line]:
        for plan in self._site.cabinets:
            ledger = self._site.emulator.ledger(plan.board)
            lanes = {lane.number: lane.channel for lane in plan.lanes}
            for line in ledger[self._read.get(plan.board, 0) :]:
                nobody_looks = line["event"].startswith("eye") and not plan.drop_sensor
                if not nobody_looks and (words := of_ledger(line, lanes)):
                    yield f"cabinet {plan.name}", *words
            self._read[plan.board] = len(ledger)
        messages = self._site.platform.messages
        fresh = messages[self._heard :]
        self._heard += len(fresh)
        for message in fresh:
            if message.topic == "state" and not self._is_a_turn(message.json):
                continue
            if words := of_message(message):
                yield "<- MQTT", *words
        callbacks = self._told[self._told_so_far :]
        self._told_so_far += len(callbacks)
        for body in callbacks:
            yield "<- platform", *of_callback(body)

    def _is_a_turn(self, state: Mapping[str, Any]) -> bool:
        """Whether a state is worth a line: not that it dispenses, which one sees."""
        mode = state["mode"] if state["online"] else ""
        if mode in {"dispensing", self._mode}:
            return False
        self._mode = mode
        return True
