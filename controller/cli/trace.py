"""`vendctl trace`: what passes the boards' lines, raw beside interpreted; and saved to replay."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from controller import capture
from controller.capture import Piece
from controller.cli import screen
from controller.cli.client import path
from controller.cli.exits import Exit, Trouble
from controller.cli.verbs import Line, Session, Verb, whole
from controller.cli.words import say

ARROWS = {"in": "<", "out": ">"}
SECONDS = 60
DAY_S = 86_400


def run(session: Session, args: argparse.Namespace) -> Exit:
    board = args.board
    if args.save and board is None:
        board = _only_board(session)
    asked = {
        "seconds": args.seconds,
        "board": board,
        "follow": int(args.follow) or None,
        "quiet": None if args.all or args.save else 1,
    }
    shown = 0
    with _saving(args.save) as save:
        for line in session.daemon.lines(path("trace"), **asked):
            save(line)
            shown += _show(session, line, everything=args.all, with_board=board is None)
    if args.follow:
        raise Trouble(
            Exit.UNREACHABLE, "stream_ended", say("The daemon ended the stream: it stops")
        )
    if not (session.json or args.save or shown):  # how much was saved is said already
        screen.words(
            say(
                "Nothing passed in the last {seconds} s but what keeps a line alive (--all shows "
                "it), or nothing at all: see 'vendctl link'",
                seconds=args.seconds,
            )
        )
    return Exit.FINE


def _show(session: Session, line: Mapping[str, Any], *, everything: bool, with_board: bool) -> bool:
    """Whether it was a frame that is shown. Raises Trouble where the line says that it ends."""
    if session.json:
        screen.as_json_line(line)
    if line.get("note") == "too_slow":
        raise Trouble(
            Exit.TIME_RAN_OUT,
            "too_slow",
            say("The daemon left this reader, which was too slow for the line. Begin again"),
        )
    if line.get("problem"):
        screen.words(
            say(
                "Board {board}: nothing is kept of its line now ({why}); only --follow shows it",
                board=screen.clean(line.get("board")),
                why=screen.clean(line["problem"]),
            )
        )
    if session.json or "direction" not in line or (line.get("idle") and not everything):
        return False
    for row in rows(line, with_board=with_board):
        screen.data(row)
    sys.stdout.flush()  # who reads it through a pipe follows it too
    return True


def rows(line: Mapping[str, Any], *, with_board: bool) -> list[str]:
    """A frame for people: time, direction and name; its meaning; its bytes."""
    words = [
        screen.at_ms(line.get("at")),
        screen.clean(line.get("board")) if with_board else "",
        ARROWS.get(str(line.get("direction")), "?"),
        screen.clean(line.get("name")),
        "" if line.get("ok") else screen.paint(say("(not understood)"), "bad"),
    ]
    return [
        " ".join(filter(None, words)),
        *(screen.wrapped(str(line["meaning"]), "    ") if line.get("meaning") else ()),
        *screen.wrapped(str(line.get("frame")), "    "),
    ]


def _only_board(session: Session) -> str:
    """A capture is one board's. Raises Trouble where there are several."""
    boards = [str(port.get("board")) for port in session.daemon.read("/v1/link").get("ports", ())]
    if len(boards) == 1:
        return boards[0]
    raise Trouble(
        Exit.USAGE,
        "which_board",
        say(
            "A capture is of one board. Name it: vendctl trace BOARD --save FILE, with {boards}",
            boards=", ".join(boards) or "-",
        ),
    )


# --------------------------------------------------------------------------- saved


@contextlib.contextmanager
def _saving(name: str | None) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """What takes each line of the stream. The file is made anew: one that is there is never
    written over. Raises Trouble when it cannot be written."""
    if name is None:
        yield lambda _line: None
        return
    saved = 0
    try:
        with Path(name).open("x", encoding="ascii", errors="replace", buffering=1) as file:

            def save(line: Mapping[str, Any]) -> None:
                nonlocal saved
                file.write(_written(line))
                saved += "direction" in line

            try:
                yield save
            finally:
                words = say("{count} frames are in {file}", count=saved, file=screen.clean(name))
                screen.words(words)
    except FileExistsError:
        message = say("{file} exists, and is not overwritten: choose another name", file=name)
        raise Trouble(Exit.REFUSED, "file_exists", message) from None
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise  # of stdout: `vendctl trace --save F | head`
        raise Trouble(
            Exit.REFUSED,
            "cannot_save",
            say(
                "Cannot save to {file}: {why}. Name another one",
                file=screen.clean(name),
                why=error.strerror or error,
            ),
        ) from error


def _written(line: Mapping[str, Any]) -> str:
    """What a line of the stream is in a capture; empty for one that is nothing there."""
    if line.get("note") == "board":
        facts = {name: line.get(name, "") for name in ("board", "protocol", "baudrate", "program")}
        return capture.head(**facts, started=line.get("at", "")) + "\n"
    if "direction" not in line:
        return ""
    try:
        piece = Piece(
            float(line["at"]),
            float(line["mono"]),
            str(line["direction"]),
            bytes.fromhex(str(line["frame"])),
        )
    except (KeyError, TypeError, ValueError):
        return ""
    return capture.line_of(piece, f"{line.get('name', '')}: {line.get('meaning', '')}")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("board", nargs="?", metavar="BOARD", help=say("else every board"))
    parser.add_argument(
        "--seconds",
        type=whole(0, DAY_S),
        default=SECONDS,
        metavar="N",
        help=say("how far back ({seconds})", seconds=SECONDS),
    )
    parser.add_argument("--follow", action="store_true", help=say("then live, until Ctrl-C"))
    parser.add_argument("--all", action="store_true", help=say("also what only keeps a line alive"))
    parser.add_argument(
        "--save", metavar="FILE", help=say("into a new file that the emulator can replay")
    )


VERBS = (
    Verb(
        "trace",
        (
            Line(
                "trace [BOARD]",
                "the frames of the boards' lines, decoded",
                "vendctl trace main --seconds 300",
            ),
            Line(
                "trace BOARD --save FILE",
                "a capture, to be sent or replayed",
                "vendctl trace main --save jam.capture",
            ),
        ),
        run,
        _arguments,
        note="< came from the board, > went to it. POLLs, their ACKs and STATUS are left out\n"
        "without --all. With --json an object a line. Ctrl-C ends --follow (exit code 130).",
    ),
)
