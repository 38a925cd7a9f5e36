"""A bare slave of an XY board: acknowledges whatever comes, and does nothing else.

    python -m benchmarks.bare.answerer PORT

What any Python program costs that sits on such a line. Runs until it is ended.
"""

from __future__ import annotations

import os
import sys
import tty

from controller.boards.xy.framing import ACK_COMMAND, Frame, encode_frame

READ_BYTES = 4096


def main() -> None:
    line = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
    tty.setraw(line)
    ack = encode_frame(Frame(ACK_COMMAND))
    while os.read(line, READ_BYTES):
        os.write(line, ack)


if __name__ == "__main__":
    main()
