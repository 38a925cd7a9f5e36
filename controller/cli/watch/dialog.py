"""What stands before the screen: the question before an act, and a refusal after one."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from controller.cli.watch.acts import Act
from controller.cli.words import say

Answer = dict[str, str]
"""What the person adds to the body of the act: `reason`, `outcome`. None for: do not."""

LONGEST_REASON = 200
"""The service's own bound."""

BOX = """
    %s { align: center middle; background: transparent; }
    %s Vertical {
        width: 56; height: auto; border: ascii; padding: 0 1; background: ansi_default;
        color: ansi_default;
    }
    Input { border: none; height: 1; background: ansi_default; color: ansi_default; }
"""


class Ask(ModalScreen[Answer | None]):
    """Says what will be done, and does it after `y`, or after one of the choices; where a
    reason is kept, after Enter behind it."""

    CSS = BOX % ("Ask", "Ask")
    AUTO_FOCUS = ""  # a choice comes before its reason

    def __init__(self, act: Act) -> None:
        super().__init__()
        self._act = act
        self._answer: Answer = {}
        self._writing = act.wants_reason and not act.choices
        self._reason = Input(max_length=LONGEST_REASON)
        self._reason.cursor_blink = False  # each blink would be sent

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(self._act.intent, markup=False)
            yield Static(self._question(), markup=False)
            if self._act.wants_reason:
                yield Static(say("Why? Enter: do it    Esc: leave it"), markup=False)
                yield self._reason

    def on_mount(self) -> None:
        if self._writing:
            self._reason.focus()

    def _question(self) -> str:
        if self._act.choices:
            chosen = [f"{key}: {words}" for key, (words, _) in self._act.choices.items()]
            return "\n".join([*chosen, say("any other key: leave it")])
        return "" if self._act.wants_reason else say("y: do it    any other key: leave it")

    def on_key(self, event: events.Key) -> None:
        if self._writing:
            if event.key == "escape":
                event.stop()
                self.dismiss(None)
            elif self.focused is None and event.is_printable and event.character is not None:
                # Typed before the field had the focus, which comes a moment later.
                event.stop()
                self._reason.value += event.character
                self._reason.cursor_position = len(self._reason.value)
            return
        event.stop()
        event.prevent_default()
        choice = self._act.choices.get(event.key)
        if choice is not None:
            self._answer["outcome"] = choice[1]
            self._writing = True
            self._reason.focus()
        elif self._act.choices or event.key != "y":
            self.dismiss(None)
        else:
            self.dismiss(self._answer)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss({**self._answer, "reason": event.value})


class Tell(ModalScreen[None]):
    """A refusal with its reason, until a key."""

    CSS = BOX % ("Tell", "Tell")
    BINDINGS: ClassVar = []

    def __init__(self, words: str) -> None:
        super().__init__()
        self._words = words

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(self._words, markup=False)
            yield Static(say("any key: go on"), markup=False)

    def on_key(self, event: events.Key) -> None:
        event.stop()
        self.dismiss(None)
