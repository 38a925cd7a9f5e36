"""The page of `vendctl watch`: what was seen, laid out for a screen of so many signs.

Pure: the same picture gives the same lines, and no line changes by the passing of time, so
that a quiet machine sends nothing over a slow link.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.cli import screen
from controller.cli.meanings import glossed, meant
from controller.cli.status import may_start, trouble_of_lane, troubles_of
from controller.cli.watch.seen import Seen
from controller.cli.watch.shelves import (
    ASCII,
    Line,
    Shelf,
    Signs,
    bar,
    cell_width,
    in_one,
    narrowed,
    shelves,
    top,
)
from controller.cli.words import joined, later, say

STATES = ("opened", "written", "accepted", "moving", "ended")
"""A cycle's way, as docs/cycle.md names it."""

MOST_UNKNOWN = 3
MOST_TROUBLES = 3
"""More are counted: the lanes below must stay on the screen."""

GAP = "  "

LEAST_LINES = 2
"""Of what leaves and of frames each, however little room there is."""

EDGES = 12
"""Edges of a light eye that its trace shows, and of how many pulses it tells the width."""

SHORT_S, LONG_S = 0.2, 1.0
"""An item that falls past the eye takes less than the one, a hand longer than the other."""

KEYS = later("[t]est [f]ill [e]nable [d]isable [x]stop [a]start [s]ervice [r]esolve [q]uit")
SHORT_KEYS = later("t test f fill e on d off x stop a start s svc r resolve q")


@dataclass(frozen=True, slots=True)
class Look:
    """What the person chose: the lane that keys act upon, and what the last act said."""

    chosen: str = ""
    note: str = ""


def page(seen: Seen, width: int, height: int, signs: Signs, look: Look) -> list[Line]:
    """Exactly `height` lines of at most `width` columns."""
    why: list[Line] = [[(seen.why, "bad")]] if seen.lost_at is not None else []
    head = [first_line(seen), *_before_a_hand(seen), *why, *_summary(seen, width, signs)]
    head += [*_unknown(seen), *_troubles(seen)]
    middle = [*_chosen(seen, look.chosen), *_cycles(seen, signs), *_eyes(seen, signs)]
    foot: list[Line] = [_foot(look, width)]
    room = height - len(head) - len(middle) - len(foot)
    lanes = _lanes(seen, width, max(room - 2 * LEAST_LINES, 3), signs, look.chosen)
    rest = max(room - len(lanes), 0)
    frames = _frames(seen, signs)
    told = _told(seen, signs)
    for_frames = max(min(len(frames), rest - min(len(told), rest // 2)), 0)
    newest_told = told[max(len(told) - (rest - for_frames), 0) :]
    newest_frames = frames[len(frames) - for_frames :]
    space: list[Line] = [[] for _ in range(rest - len(newest_told) - len(newest_frames))]
    lines = [*head, *lanes, *middle, *newest_told, *newest_frames, *space]
    lines = [*lines[: height - 1], *foot]
    return [cut(line, width, signs) for line in lines]


def cut(line: Line, width: int, signs: Signs) -> Line:
    kept: Line = []
    left = width
    for text, style in line:
        text_shown = screen.cut(shown(text, signs), left)
        if signs is ASCII:
            text_shown = text_shown.replace("…", "~")
        if text_shown:
            kept.append((text_shown, style))
        left -= screen.columns_of(text_shown)
        if left <= 0:
            break
    return kept


def shown(text: str, signs: Signs) -> str:
    """Without what would move the cursor, or what the terminal has no sign for."""
    printable = "".join(sign if sign.isprintable() else "?" for sign in text)
    if signs is ASCII:
        return printable.replace("…", "~").encode("ascii", "replace").decode()
    return printable


def order_of_lanes(seen: Seen) -> list[list[str]]:
    """Channels by shelf, top first: the way of the arrow keys."""
    return [
        [str(lane["channel"]) for lane in shelf if lane is not None]
        for _, rows in _shelves(seen)
        for shelf in rows
    ]


# --------------------------------------------------------------------------- the head


def first_line(seen: Seen) -> Line:
    """Whether a hand may be hurt now; and when that is not known, that it is not."""
    if seen.lost_at is not None:
        since = screen.at(seen.lost_at, day=False)
        sentence = say("NOT KNOWN whether anything moves: no word since {since}", since=since)
        return [(sentence, "bad")]
    if not seen.parts:
        return [(say("Asking the daemon …"), "loud")]
    cycles = seen.part("cycles").values()
    moving = [each for each in cycles if each.get("state") in STATES[:-1]]
    if seen.part("machine").get("moving") or moving:
        what = ", ".join(f"{each.get('channel')} ({each.get('purpose')})" for each in moving)
        return [(say("MOVING: {lanes}", lanes=what or "?"), "bad")]
    if doubtful := _may_turn(seen):
        names = ", ".join(doubtful)
        return [(say("NOT KNOWN whether a motor turns: board {names}", names=names), "bad")]
    if soon := may_start(seen.part("machine")):
        return [(say("Nothing moves now. {sentence}", sentence=soon[0]), "bad")]
    return [(say("Nothing moves."), "good")]


def _before_a_hand(seen: Seen) -> list[Line]:
    """What the first line has no room for; also while something moves in another cabinet."""
    if seen.lost_at is not None:
        return []
    soon = may_start(seen.part("machine"))
    said = first_line(seen)[0][0]
    return [[(each, "bad")] for each in soon if each not in said]


def _may_turn(seen: Seen) -> list[str]:
    """Boards that gave no answer to a drive, or said that a motor did not stop."""
    silent = {
        name
        for name, board in seen.part("boards").items()
        if board.get("quarantined_until") is not None
    }
    told = {
        str(cabinet.get("board"))
        for cabinet in seen.part("cabinets").values()
        if cabinet.get("reason") == "motor_may_turn"
    }
    return sorted(silent | told)


def _summary(seen: Seen, width: int, signs: Signs) -> list[Line]:
    """On as many lines as it takes: no sign of it falls off a narrow screen."""
    machine = seen.part("machine")
    if not machine:
        return []
    broker = machine.get("broker") or {}
    waiting = sum(n for n in (machine.get("outbox") or {}).values() if isinstance(n, int))
    boards = seen.part("boards")
    marks = [
        (name, bool(ok))
        for name, ok in (
            (say("broker"), broker.get("connected")),
            *((name, board.get("up")) for name, board in boards.items()),
            (say("clock"), (machine.get("clock") or {}).get("believed")),
            (say("journal"), (machine.get("journal") or {}).get("writable")),
        )
    ]
    mode = say("stopping") if machine.get("stopping") else meant(machine.get("mode", "?"))
    orders = machine.get("open_orders", "?")
    open_and_unsent = say("  open {orders}, to send {waiting}", orders=orders, waiting=waiting)
    told: Line = [(mode, "loud"), (open_and_unsent, "")]
    for name, ok in marks:
        sign = signs.health["ok" if ok else "disabled"]
        gap = GAP if name == marks[0][0] else " "
        told.append((f"{gap}{sign}{name}", "good" if ok else "bad"))
    told.append((f"{GAP}{machine.get('machine_no', '')}", "faint"))
    return _packed(told, width)


def _packed(spans: Line, width: int) -> list[Line]:
    """Whole spans, as many as fit on each line; none begins one with its gap."""
    lines: list[Line] = [[]]
    left = width
    for text, style in spans:
        if lines[-1] and screen.columns_of(text) > left:
            lines.append([])
            left = width
        kept = text if lines[-1] else text.lstrip()
        lines[-1].append((kept, style))
        left -= screen.columns_of(kept)
    return lines


def _unknown(seen: Seen) -> list[Line]:
    units = list(seen.part("unknown").values())
    lines: list[Line] = [[(f"? {unknown_in_words(unit)}", "bad")] for unit in units[:MOST_UNKNOWN]]
    if len(units) > MOST_UNKNOWN:
        more = say("? … and {count} more like these", count=len(units) - MOST_UNKNOWN)
        lines.append([(more, "bad")])
    return lines


def unknown_in_words(unit: Mapping[str, Any]) -> str:
    fields = {
        "channel": unit.get("channel", "?"),
        "order": screen.order_key(unit),
        "unit": unit.get("unit", "?"),
        "reason": meant(unit.get("reason") or "?"),
        "at": screen.at(unit.get("at"), day=False),
    }
    if unit.get("order_id") is None:
        return say("{channel}: a test at {at} may have dropped ({reason})", **fields)
    return say("{channel}: unit {unit} of {order} may have dropped ({reason})", **fields)


def _troubles(seen: Seen) -> list[Line]:
    machine = seen.part("machine")
    if not machine:
        return []
    parts = {name: seen.part(name) for name in ("boards", "cabinets")}
    # Mode and service mode are told here, without what is left of it: that would tick.
    found = troubles_of({**machine, **parts, "mode": "ready", "service_mode": None})
    if isinstance(service := machine.get("service_mode"), Mapping):
        fields = {
            "who": service.get("who", "?"),
            "until": screen.at(service.get("until"), day=False),
        }
        found.insert(0, say("service mode ({who}): no order is taken; to {until}", **fields))
    for name, board in seen.part("boards").items():
        if board.get("quarantined_until") is not None:
            until = screen.at(board["quarantined_until"], day=False)
            found.append(
                say("board {name}: a cycle had no answer; waits to {at}", name=name, at=until)
            )
    unknown = {unit.get("channel") for unit in seen.part("unknown").values()}
    for channel, lane in seen.part("lanes").items():
        if lane.get("health") != "ok" and channel not in unknown:  # those have their own line
            told = lane.get("health"), lane.get("health_reason")
            found.append(trouble_of_lane(channel, *told, machine))
    lines: list[Line] = [[(f"! {trouble}", "bad")] for trouble in found[:MOST_TROUBLES]]
    if len(found) > MOST_TROUBLES:
        more = say("! … and {count} more: vendctl status", count=len(found) - MOST_TROUBLES)
        lines.append([(more, "bad")])
    return lines


# --------------------------------------------------------------------------- the lanes


def _shelves(seen: Seen) -> list[tuple[str, list[Shelf]]]:
    lanes: dict[str, list[Mapping[str, Any]]] = {}
    for lane in seen.part("lanes").values():
        lanes.setdefault(str(lane.get("cabinet", "?")), []).append(lane)
    return [(name, shelves(lanes[name])) for name in sorted(lanes)]


def _lanes(seen: Seen, width: int, room: int, signs: Signs, chosen: str) -> list[Line]:
    """Two lines a shelf; one where that is too many; then as many as fit around the chosen."""
    for lines_each in (2, 1):
        lines = _all_lanes(seen, width, signs, chosen, lines_each)
        if len(lines) <= room:
            return [line for line, _ in lines]
    place = next((at for at, (_, has) in enumerate(lines) if has), 0)
    first = max(0, min(place - room // 2, len(lines) - room))
    return [line for line, _ in lines[first : first + room]]


def _all_lanes(
    seen: Seen, width: int, signs: Signs, chosen: str, lines_each: int
) -> list[tuple[Line, bool]]:
    """Lines, and whether the chosen lane is in them."""
    found: list[tuple[Line, bool]] = []
    for name, whole in _shelves(seen):
        longest = max((len(str(ln["channel"])) for row in whole for ln in row if ln), default=2)
        rows = narrowed(whole, max(width // (longest + 3), 1))
        room = cell_width(rows, width)
        found.append((_cabinet(name, seen.part("cabinets").get(name, {})), False))
        for row in rows:
            has = [lane is not None and lane.get("channel") == chosen for lane in row]
            pairs = list(zip(row, has, strict=True))
            if lines_each == 1:
                found.append(([in_one(ln, room, signs, chosen=on) for ln, on in pairs], any(has)))
                continue
            found.append(([top(ln, room, signs, chosen=on) for ln, on in pairs], any(has)))
            found.append(([bar(ln, room, signs) for ln in row], any(has)))
    return found


def _cabinet(name: str, cabinet: Mapping[str, Any]) -> Line:
    state = str(cabinet.get("state", "?"))
    style = "good" if state in ("ready", "running") else "bad"
    kind = meant(cabinet.get("kind", ""))
    line: Line = [(f"{name} {kind} ", "loud"), (meant(state), style)]
    if cabinet.get("eye") not in (None, "absent"):
        line.append((say("  light eye {eye}", eye=meant(cabinet["eye"])), ""))
    return line


def _chosen(seen: Seen, chosen: str) -> list[Line]:
    """In words what the signs of the chosen lane say."""
    lane = seen.part("lanes").get(chosen)
    if lane is None:
        return []
    fields = {name: lane.get(name, "?") for name in ("product_id", "stock", "capacity", "cycles")}
    told = say("product {product_id}, {stock} of {capacity}, {cycles} cycles", **fields)
    words = [told, meant(lane.get("health", "?")), meant(lane.get("health_reason") or "")]
    return [[(f"> {chosen} ", "loud"), (joined([word for word in words if word]), "")]]


# --------------------------------------------------------------------------- what runs


def _cycles(seen: Seen, signs: Signs) -> list[Line]:
    lines: list[Line] = []
    for cycle in seen.part("cycles").values():
        lines.append(_cycle(cycle))
        if cycle.get("state") != "waiting":
            lines.append(_way(cycle, signs))
    return lines


def _cycle(cycle: Mapping[str, Any]) -> Line:
    name = (f"{cycle.get('channel', '?')} {cycle.get('purpose', '?')}  ", "loud")
    outcome = cycle.get("outcome")
    if cycle.get("state") == "waiting":
        return [name, (say("waits: {why}", why=meant(cycle.get("why", "?"))), "")]
    if outcome is None:
        state = _step(str(cycle.get("state")))
        broken = "" if cycle.get("line_up", True) else say("  (no link)")
        words = state + (f" ({meant(cycle['reason'])})" if cycle.get("reason") else "") + broken
        return [name, (words, "loud")]
    told = [meant(cycle["reason"])] if _says(cycle.get("reason")) else []
    why = joined(told + ([say(str(cycle["evidence"]))] if _says(cycle.get("evidence")) else []))
    drops = cycle.get("drops") or 0
    counted = say(", {drops} fell", drops=drops) if drops > 1 else ""
    shown_outcome = f"{glossed(outcome)} ({why}{counted})"
    return [name, (shown_outcome, "good" if outcome == "delivered" else "bad")]


def _step(state: str) -> str:
    """A state of a cycle; `accepted` is an order's word, too."""
    return say(state) if state in STATES else meant(state)


def _says(word: object) -> bool:
    return word not in (None, "", "none")


def _way(cycle: Mapping[str, Any], signs: Signs) -> Line:
    """Each state with the milliseconds since the opening."""
    times = cycle.get("times") or {}
    opened = times.get("opened")
    line: Line = [(" ", "")]
    over = cycle.get("outcome") is not None
    for state in STATES:
        at = times.get(state)
        reached = at is not None or (over and state == "ended")
        after = ""
        if isinstance(at, int | float) and isinstance(opened, int | float) and state != "opened":
            after = f" {max(at - opened, 0) * 1000:.0f}"
        mark = signs.reached if reached else signs.not_reached
        line.append((f" {mark}{_step(state)}{after}", "" if reached else "faint"))
    return line


def _eyes(seen: Seen, signs: Signs) -> list[Line]:
    lines: list[Line] = []
    for name, board in seen.part("boards").items():
        if board.get("eye") in (None, "absent", "unverified", "watched"):
            continue
        level = str(board["eye"])
        drawn, widths = _trace(board.get("eye_changes") or (), signs)
        style = "good" if level == "clear" else "bad"
        line: Line = [(say("eye {board} ", board=name), "loud"), (meant(level), style)]
        line.append((f" {drawn}", ""))
        if widths:
            told = ", ".join(f"{width * 1000:.0f}" for width in widths)
            line.append((say("  blocked for {widths} ms", widths=told), ""))
        lines.append(line)
    return lines


def _trace(changes: Sequence[Sequence[Any]], signs: Signs) -> tuple[str, list[float]]:
    """The newest edges as a drawing, longer where a level lasted longer; and how long each
    pulse was. The last level goes on and is drawn short: a drawing that grew would be sent
    each second."""
    edges = [(float(at), str(level)) for at, level in changes][-EDGES:]
    drawn, widths = signs.clear, []
    for at, (began, level) in enumerate(edges):
        lasted = edges[at + 1][0] - began if at + 1 < len(edges) else 0.0
        length = 1 + (lasted > SHORT_S) + (lasted > LONG_S)
        drawn += (signs.clear if level == "clear" else signs.blocked) * length
        if level != "clear" and lasted:
            widths.append(lasted)
    return drawn, widths[-3:]


# --------------------------------------------------------------------------- what passes


def _told(seen: Seen, signs: Signs) -> list[Line]:
    """Results and orders on their way, and events, by time."""
    found: list[tuple[float, Line]] = []
    for message in seen.part("messages").values():
        sent = message.get("sent_at") is not None
        unit = f"#{message['unit']}" if message.get("unit") else ""
        told = [
            screen.at(message.get("at"), day=False),
            signs.left if sent else signs.waits,
            str(message.get("topic", "?")),
            f"{message.get('order', '?')}{unit}",
            *(str(message[each]) for each in ("what", "why", "channel") if message.get(each)),
        ]
        if not sent:
            told.append(say("(waits for the broker)"))
        found.append((_time(message.get("at")), [(" ".join(told), "" if sent else "loud")]))
    for event in seen.part("events").values():
        when = screen.at(event.get("at"), day=False)
        text = f"{when} {signs.happened} {event.get('kind', '?')} {_detail(event.get('detail'))}"
        found.append((_time(event.get("at")), [(text.rstrip(), "")]))
    return [line for _, line in sorted(found, key=_when)]


def _when(told: tuple[float, Line]) -> float:
    return told[0]


def _time(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _detail(detail: object) -> str:
    """What names the place and the reason; the rest is in `vendctl events`."""
    if not isinstance(detail, Mapping):
        return ""
    wanted = ("channel", "cabinet", "board", "lane", "outcome", "reason", "level", "note", "why")
    told = [str(detail[name]) for name in wanted if detail.get(name) not in (None, "")]
    turned = {"True": "on", "False": "off"}.get(str(detail.get("on")), "")
    return " ".join(filter(None, [turned, *told]))


def _frames(seen: Seen, signs: Signs) -> list[Line]:
    if seen.frames_note:
        return [[(seen.frames_note, "faint")]]
    lines: list[Line] = []
    for frame in seen.frames:
        arrow = signs.into if frame.get("direction") == "in" else signs.out_of
        what = frame.get("name") or ""
        meaning = frame.get("meaning") or ""
        words = meaning if str(meaning).startswith(str(what)) else f"{what} {meaning}"
        text = f"{screen.at_ms(frame.get('at'))} {frame.get('board', '?')} {arrow} {words}"
        raw = screen.spaced(str(frame.get("frame", "")))
        lines.append([(text.rstrip(), ""), (f"  {raw}", "faint")])
    return lines


def _foot(look: Look, width: int) -> Line:
    if look.note:
        return [(look.note, "loud")]
    keys = say(KEYS)
    return [(keys if width >= screen.columns_of(keys) else say(SHORT_KEYS), "faint")]
