"""A bare board: answers known bytes with known bytes on a pty, and knows nothing else.

    python -m benchmarks.bare.board PROTOCOL LINK MOTION_MS

LINK becomes a symbolic link to the pty. Runs until it is ended.
"""

from __future__ import annotations

import os
import pty
import sys
import time
import tty
from pathlib import Path

from benchmarks.bare.exchange import EXCHANGES, Turn

READ_BYTES = 4096


def serve(turns: tuple[Turn, ...], line: int, motion_s: float) -> None:
    """Turn after turn, then from the first again. Waits in the kernel, never in a loop."""
    while True:
        for turn in turns:
            wanted = len(turn.request)
            while wanted > 0:
                wanted -= len(os.read(line, min(wanted, READ_BYTES)))
            if turn.answer:
                os.write(line, turn.answer)
            if turn.later:
                time.sleep(motion_s)
                os.write(line, turn.later)


def open_pty(link: Path) -> int:
    """The board's end; `link` names the host's. Both ends raw, the host's end held open."""
    board, host = pty.openpty()
    tty.setraw(board)
    tty.setraw(host)
    link.unlink(missing_ok=True)
    link.symlink_to(os.ttyname(host))
    return board


def main() -> None:
    protocol, link, motion_ms = sys.argv[1:]
    board = open_pty(Path(link))
    serve(EXCHANGES[protocol].turns(), board, float(motion_ms) / 1000)


if __name__ == "__main__":
    main()
