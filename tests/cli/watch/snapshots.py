"""The screens that are compared with committed ones; `python -m tests.cli.watch.snapshots`
writes them anew, to be looked at before they are committed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from controller.cli.watch.page import Look, first_line, page
from controller.cli.watch.seen import Seen
from controller.cli.watch.shelves import ASCII, UTF8, Line, Signs

HERE = Path(__file__).parent
RECORDING = HERE / "recordings" / "machine.jsonl"
FRAMES = HERE / "recordings" / "frames.jsonl"
SCREENS = HERE / "screens"

SIZES: dict[str, tuple[int, int, Signs]] = {
    "80x24": (80, 24, UTF8),
    "60x24-ascii": (60, 24, ASCII),
}


def replayed(until: Callable[[Seen], bool] = lambda _: False) -> Seen:
    """The recording up to the first line after which this holds; else the whole of it."""
    seen = Seen()
    for line in RECORDING.read_text(encoding="utf-8").splitlines():
        seen.take(json.loads(line))
        if until(seen):
            break
    return seen


def with_frames(seen: Seen) -> Seen:
    for line in FRAMES.read_text(encoding="utf-8").splitlines():
        seen.take_frame(json.loads(line))
    return seen


def moving(seen: Seen) -> bool:
    return first_line(seen)[0][0] == "MOVING: A3 (1#2)" and "ended" not in _times(seen)


def _times(seen: Seen) -> dict[str, float]:
    return dict(seen.part("cycles")["A"].get("times", {}))


def at_first() -> Seen:
    return replayed(lambda _: True)


def lost() -> Seen:
    seen = replayed(moving)
    seen.lose("The daemon stopped; it is asked again each second.", 1_795_536_200.0)
    seen.lose("Cannot reach the daemon at /run/control.sock: nobody listens there", 1_795_536_201.0)
    return seen


def no_frames() -> Seen:
    seen = replayed()
    seen.frames_note = "frames: not available"
    return seen


MOMENTS: dict[str, Callable[[], Seen]] = {
    "at_rest": at_first,
    "moving": lambda: with_frames(replayed(moving)),
    "in_trouble": no_frames,
    "lost": lost,
    "nothing_yet": Seen,
}


def lines_of(moment: str, size: str) -> list[Line]:
    os.environ["TZ"] = "UTC"
    time.tzset()
    width, height, signs = SIZES[size]
    return page(MOMENTS[moment](), width, height, signs, Look("A12"))


def text_of(lines: list[Line]) -> str:
    return "".join("".join(text for text, _ in line).rstrip() + "\n" for line in lines)


def styles_of(lines: list[Line]) -> str:
    """The same with each span in the name of its style: `good(ready)`."""
    return "".join(
        " ".join(f"{style}({text.strip()})" for text, style in line if style and text.strip())
        + "\n"
        for line in lines
    )


def write() -> None:
    SCREENS.mkdir(exist_ok=True)
    for moment in MOMENTS:
        for size in SIZES:
            text = text_of(lines_of(moment, size))
            (SCREENS / f"{moment}.{size}.txt").write_text(text, encoding="utf-8")
        styles = styles_of(lines_of(moment, "80x24"))
        (SCREENS / f"{moment}.styles.txt").write_text(styles, encoding="utf-8")


if __name__ == "__main__":
    write()
