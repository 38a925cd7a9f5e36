"""The site of the torture: both protocols at once on one machine, short motors, many lanes.

A unit that ends `unknown` takes its lane out of sale until somebody counts it: so there are
many lanes, and at each rest a technician fills them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.crash.every_boundary import VBP, XY
from tests.system.platform_client import Message
from tests.system.site import Lane, Site

LANES = 24
"""Of each cabinet."""
GOODS = 20
TRACK_PRODUCTS = range(101, 107)
SPIRAL_PRODUCTS = range(201, 207)
PRODUCTS = (*TRACK_PRODUCTS, *SPIRAL_PRODUCTS)
AT_ONCE = 2
"""Cycles: one of each board."""
PAGE = 200
"""Messages that an answer to `results` holds at most."""


def lanes_of(cabinet: str, products: Sequence[int]) -> list[Lane]:
    return [
        Lane(f"{cabinet}{number}", number, products[number % len(products)], GOODS)
        for number in range(1, LANES + 1)
    ]


TRACK = replace(VBP, lanes=lanes_of("A", TRACK_PRODUCTS))
SPIRAL = replace(XY, lanes=lanes_of("B", SPIRAL_PRODUCTS))


def tortured_site(directory: Path) -> Site:
    """All of it down."""
    return Site(directory, [TRACK, SPIRAL], machine={"max_parallel_cycles": AT_ONCE})


# ------------------------------------------------------------------ instants


def came(files: Iterable[Path], word: bytes) -> Callable[[], bool]:
    """Whether the word was written to one of the files since now."""
    ends = {path: path.stat().st_size if path.exists() else 0 for path in files}

    def seen() -> bool:
        for path, end in ends.items():
            if path.exists() and path.stat().st_size > end:
                with path.open("rb") as file:
                    file.seek(end)
                    if word in file.read():
                        return True
        return False

    return seen


def changed(look: Callable[[], Any]) -> Callable[[], bool]:
    before = look()
    return lambda: look() != before


def wal(site: Site) -> tuple[int, int]:
    """Length and time of the journal's write-ahead log: a commit changes it."""
    path = site.directory / "state" / "journal.db-wal"
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


# ------------------------------------------------------------------ the platform's own care


def missing(messages: Sequence[Message], last_seq: int) -> list[int]:
    """Numbers up to the journal's last that never came. One journal."""
    numbers = {message.json["seq"] for message in messages if message.topic in {"order", "result"}}
    return sorted(set(range(1, last_seq + 1)) - numbers)


def ask_for(site: Site, lost: Sequence[int], journal: int) -> list[Message]:
    """What a broker lost, from the journal itself, as docs/mqtt.md tells a platform to do."""
    wanted, found = set(lost), []
    while wanted:
        before = len(answers(site))
        question = {"journal": journal, "seq": min(wanted) - 1, "limit": PAGE}
        site.platform.send("request/results", question)
        (answer, *_) = site.platform.wait_for(
            lambda before=before: answers(site)[before:], "response/results"
        )
        page = stored_messages(answer)
        numbers = {message.json["seq"] for message in page}
        assert min(wanted) in numbers, f"P9: the journal does not give {min(wanted)} any more"
        found += [message for message in page if message.json["seq"] in wanted]
        wanted -= numbers
    return found


def answers(site: Site) -> list[Message]:
    return [m for m in site.platform.messages if m.topic == "response/results"]


def stored_messages(answer: Message) -> list[Message]:
    """The stored payloads in an answer to `results`, byte for byte."""
    text = answer.payload.decode()
    start = text.index('"messages":[') + len('"messages":[')
    found = []
    for topic in answer.json["data"]["topics"]:
        _, end = json.JSONDecoder().raw_decode(text, start)
        found.append(Message(topic, text[start:end].encode(), retained=False, at=answer.at))
        start = end + 1  # the comma
    return found


# ------------------------------------------------------------------ the technician


def goods(site: Site) -> dict[str, int]:
    """Channel -> what really lies in the lane."""
    boards: Mapping[str, Any] = {
        name: site.emulator.tell(name, ask="state")["state"]["lanes"]
        for name in site.emulator.boards
    }
    return {
        channel: boards[board][str(number)]["goods"]
        for channel, (board, number) in site.lanes().items()
    }


def refill(site: Site, lanes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Fill every lane, in truth and in the journal. What was out of sale is put on sale again
    and tried once: a motor that a reset stopped past its item stands between two turns, and
    its next turn would end at home with nothing fallen. The channels that were tried."""
    fill(site)
    ill = [lane["channel"] for lane in lanes if lane["health"] != "ok"]
    for channel in ill:
        site.daemon.ctl("lane", "enable", channel, "--yes")
        tried = site.daemon.run_ctl("test", channel, "--yes")
        assert tried.returncode in (0, 1), f"test vend of {channel}: {tried.stderr}"
    if ill:
        fill(site)
    return ill


def fill(site: Site) -> None:
    for channel, left in goods(site).items():
        board, number = site.board_of(channel)
        if left < GOODS:
            answer = site.emulator.tell(board, do="refill", lane=number, goods=GOODS)
            assert answer["ok"], answer
    site.daemon.ctl("stock", "fill", "--yes")
