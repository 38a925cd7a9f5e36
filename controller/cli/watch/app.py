"""The screen of `vendctl watch`, on Textual: draws what changed, asks before it acts.

One widget shows the lines of `page`; a line that stays the same is not drawn again, so
nothing is sent while nothing changes. Threads read the streams and carry out the acts; what
they find comes in as messages.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from controller.cli import screen
from controller.cli.client import Daemon
from controller.cli.exits import Exit, Trouble
from controller.cli.meanings import refusal
from controller.cli.vend_test import progress
from controller.cli.watch import feed
from controller.cli.watch.acts import ACTS, Act
from controller.cli.watch.dialog import Answer, Ask, Tell
from controller.cli.watch.page import Look, order_of_lanes, page, shown
from controller.cli.watch.seen import Seen
from controller.cli.watch.shelves import Line, Signs
from controller.cli.words import say

DRAW_S = 0.2
"""Between two drawings: as often as the stream tells, and a burst of frames is one drawing."""

STYLES: Mapping[str, Style] = {
    "": Style(),
    "good": Style(color="green"),
    "bad": Style(color="red", bold=True),
    "loud": Style(bold=True),
    "faint": Style(dim=True),
    "chosen": Style(reverse=True),
}
"""Attributes stay without colour; no line needs either."""


class Told(Message):
    """A line of the stream, or the code and sentence of its loss."""

    def __init__(self, line: Mapping[str, Any] | None, code: str = "", why: str = "") -> None:
        super().__init__()
        self.line = line
        self.code = code
        self.why = why


class Frame(Told):
    """The same of the frames."""


class Acted(Message):
    """What became of an act, or a step on its way. `failed`: to be read before going on."""

    def __init__(self, words: str, *, failed: bool = False) -> None:
        super().__init__()
        self.words = words
        self.failed = failed


class Screenful(Widget, can_focus=True):
    """Lines as they stand; each is sent again only when it is another."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Line] = []

    def show(self, lines: list[Line]) -> None:
        old, self.lines = self.lines, lines
        changed = [
            Region(0, at, self.size.width, 1)
            for at in range(max(len(lines), len(old)))
            if (old[at] if at < len(old) else None) != (lines[at] if at < len(lines) else None)
        ]
        if changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        line = self.lines[y] if y < len(self.lines) else []
        strip = Strip([Segment(text, STYLES.get(style, STYLES[""])) for text, style in line])
        return strip.adjust_cell_length(self.size.width)


class WatchApp(App[None]):
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { background: ansi_default; color: ansi_default; }
    Screenful { width: 100%; height: 100%; }
    """
    BINDINGS: ClassVar = [
        Binding("q", "quit", ""),
        Binding("ctrl+c", "interrupt", "", priority=True),
    ]

    def action_interrupt(self) -> None:
        """With the exit code of every verb that is stopped with Ctrl-C."""
        self.exit(return_code=int(Exit.INTERRUPTED))

    def __init__(self, daemon: Daemon | None, signs: Signs) -> None:
        """Without a daemon nothing is read: a test tells it everything."""
        super().__init__(ansi_color=True)
        self.animation_level = "none"
        self.seen = Seen()
        self.look = Look()
        self._daemon = daemon
        self._signs = signs
        self._stop = threading.Event()
        self._drawing = False
        self._acting = False
        self._body = Screenful()

    def compose(self) -> ComposeResult:
        yield self._body

    def on_mount(self) -> None:
        self._body.focus()
        if self._daemon is None:
            return
        for work, kind in ((feed.picture, Told), (feed.frames, Frame)):
            feed.begin(
                work,
                self._daemon,
                partial(self._hand_in, kind),
                partial(self._hand_in, kind, None),
                self._stop,
            )

    def on_unmount(self) -> None:
        self._stop.set()

    def _hand_in(
        self, kind: type[Told], line: Mapping[str, Any] | None, code: str = "", why: str = ""
    ) -> None:
        """From a thread."""
        self.post_message(kind(line, code, why))

    # ------------------------------------------------------------------ what is told

    def on_told(self, message: Told) -> None:
        if message.line is not None:
            self.seen.take(message.line)
        elif message.code == "no_such_path":
            self.seen.lose(say("this daemon is too old for watch: vendctl status"), time.time())
        else:
            self.seen.lose(message.why, time.time())
        self.draw_soon()

    def on_frame(self, message: Frame) -> None:
        if message.line is not None:
            if self.seen.take_frame(message.line):
                self.draw_soon()
            return
        if message.code == "no_such_path":
            self.seen.frames_note = say("frames: not available")
        elif message.code not in ("ended", "unreachable", "connection_lost", "timeout"):
            self.seen.frames_note = say("frames: {why}", why=message.why)
        self.draw_soon()

    def on_acted(self, message: Acted) -> None:
        if message.failed:
            self.push_screen(Tell(shown(message.words, self._signs)))
        self.look = replace(self.look, note="" if message.failed else message.words)
        self.draw_soon()

    # ------------------------------------------------------------------ drawing

    def draw_soon(self) -> None:
        if not self._drawing:
            self._drawing = True
            self.set_timer(DRAW_S, self.draw)

    def draw(self) -> None:
        self._drawing = False
        shelves = order_of_lanes(self.seen)
        if not any(self.look.chosen in shelf for shelf in shelves):
            first = next((shelf[0] for shelf in shelves if shelf), "")
            self.look = replace(self.look, chosen=first)
        width, height = self._body.size
        if width and height:
            self._body.show(page(self.seen, width, height, self._signs, self.look))

    def on_resize(self, _event: events.Resize) -> None:
        self.draw_soon()

    # ------------------------------------------------------------------ keys

    def on_key(self, event: events.Key) -> None:
        if len(self.screen_stack) > 1:
            return
        self.look = replace(self.look, note="")
        if event.key in ("up", "down", "left", "right"):
            self.look = replace(self.look, chosen=self._beside(event.key))
        elif event.key in ACTS and (self.look.chosen or event.key == "s"):
            self._begin(ACTS[event.key](self.seen, self.look.chosen))
        self.draw()

    def _beside(self, key: str) -> str:
        rows = order_of_lanes(self.seen)
        for at, row in enumerate(rows):
            if self.look.chosen not in row:
                continue
            column = row.index(self.look.chosen)
            if key in ("left", "right"):
                column += 1 if key == "right" else -1
            else:
                at = (at + (1 if key == "down" else -1)) % len(rows)  # noqa: PLW2901 - the row beside
            row = rows[at]  # noqa: PLW2901
            return row[max(0, min(column, len(row) - 1))]
        return self.look.chosen

    def _begin(self, act: Act | str) -> None:
        if isinstance(act, str):
            self.look = replace(self.look, note=act)
        elif self._acting:
            self.look = replace(self.look, note=say("The last act is not over yet."))
        else:
            self.push_screen(Ask(act), partial(self._agreed, act))

    def _agreed(self, act: Act, answer: Answer | None) -> None:
        if answer is None:
            self.look = replace(self.look, note=say("Nothing was done."))
            self.draw_soon()
        elif self._daemon is not None:
            self._acting = True
            body = {**act.body, **answer}
            self.look = replace(self.look, note=say("Asked …"))
            self.draw_soon()
            feed.begin(self._carry_out, self._daemon, act, body)

    def _carry_out(self, daemon: Daemon, act: Act, body: Mapping[str, Any]) -> None:
        """In a thread of its own: a test vend takes its time."""
        try:
            if act.streams:
                for step in daemon.stream(act.where, **body):
                    self._tell_step(step)
            else:
                done = daemon.act(act.where, **body)
                moving = say(" A motor may still turn: look at the first line.")
                self.post_message(Acted(say("Done.") + (moving if done.get("moving") else "")))
        except Trouble as trouble:
            words = f"{screen.clean(trouble)} ({trouble.code})"
            self.post_message(Acted(words, failed=True))
        finally:
            self._acting = False

    def _tell_step(self, step: Mapping[str, Any]) -> None:
        if step.get("event") == "refused":
            code = str(step.get("error"))
            words = f"{screen.clean(refusal(code, step))} ({code})"
            self.post_message(Acted(words, failed=True))
        elif sentence := progress(step):
            self.post_message(Acted(say("test: {step}", step=sentence)))
