"""One message to an emulated board's control socket, and its answer.

python -m tests.demo.tell BOARD.sock '{"do": "fault", "kind": "jam", "lane": 1}'
"""

from __future__ import annotations

import socket
import sys

USAGE = "usage: python -m tests.demo.tell SOCKET JSON"
ANSWER_S = 5.0
"""The emulator answers at once; more means that it is gone."""


def main(words: list[str]) -> int:
    if len(words) != 2:
        print(USAGE, file=sys.stderr)
        return 2
    path, message = words
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(ANSWER_S)
            line.connect(path)
            line.sendall(message.encode() + b"\n")
            print(line.makefile().readline().strip())
    except OSError as error:
        print(f"{path}: {error.strerror or error}; is the emulator running?", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
