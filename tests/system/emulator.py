"""firmware-sim as a process: boards on ptys, their control sockets and their ledgers."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.system.process import PROGRAMS, Process
from tests.system.waiting import wait_for


@dataclass(frozen=True)
class LaneOfGoods:
    """A lane of an emulated board. Milliseconds of machine time."""

    number: int
    kind: str = "track"
    goods: int = 8
    run_ms: int = 300
    fall_ms: int = 100


@dataclass(frozen=True)
class EmulatedBoard:
    name: str
    protocol: str
    lanes: Sequence[LaneOfGoods]
    remembers: bool = True
    """Its memory lies in a file and survives the emulator."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of its table in the scenario."""
    faults: Sequence[Mapping[str, Any]] = ()


def toml_table(header: str, values: Mapping[str, Any]) -> str:
    """JSON's strings, numbers, booleans and flat lists are TOML's too."""
    return "\n".join(
        [header, *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""]
    )


class Emulator(Process):
    def __init__(
        self, directory: Path, boards: Sequence[EmulatedBoard], *, speed: float = 1, seed: int = 1
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.boards = {board.name: board for board in boards}
        scenario = directory / "scenario.toml"
        scenario.write_text("\n".join(map(self._tables, boards)), encoding="utf-8")
        words = ("--speed", str(speed), "--seed", str(seed))
        super().__init__(
            [PROGRAMS / "firmware-sim", scenario, *words], directory / "firmware-sim.log"
        )

    def port(self, board: str) -> Path:
        """The pty's link, as the daemon's settings name it."""
        return self.directory / f"{board}.tty"

    def _tables(self, board: EmulatedBoard) -> str:
        head: dict[str, Any] = {
            "name": board.name,
            "protocol": board.protocol,
            "port": f"pty:{self.port(board.name)}",
            "seed": 1,
            "ledger": str(self.directory / f"{board.name}.jsonl"),
            "control": str(self.directory / f"{board.name}.sock"),
        }
        if board.remembers:
            head["memory"] = str(self.directory / f"{board.name}.mem")
        tables = [toml_table("[[board]]", {**head, **board.more})]
        tables += [
            toml_table("[[board.lane]]", {**vars(lane), "jitter": 0.1}) for lane in board.lanes
        ]
        tables += [toml_table("[[board.fault]]", fault) for fault in board.faults]
        return "\n".join(tables)

    def up(self) -> None:
        self.start()
        for board in self.boards:
            wait_for(partial(self._is_up, board), f"board {board} is emulated")

    def _is_up(self, board: str) -> bool:
        assert self.alive, f"firmware-sim ended with {self.exit_code}:\n{self.output()}"
        on_pty = "port" not in self.boards[board].more
        if on_pty and not self.port(board).exists():
            return False
        return "state" in self.tell(board, ask="state", tolerant=True)

    def tell(self, board: str, *, tolerant: bool = False, **message: Any) -> dict[str, Any]:
        """One message to the board's control socket, and its answer.

        `tolerant`: an empty answer while the socket is not there yet.
        """
        path = self.directory / f"{board}.sock"
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
                line.settimeout(5)
                line.connect(str(path))
                line.sendall(json.dumps(message).encode() + b"\n")
                answer = line.makefile("rb").readline()
        except OSError:
            if tolerant:
                return {}
            raise
        return dict(json.loads(answer))

    def fault(self, board: str, kind: str, **more: Any) -> None:
        """Set a fault now, as `fault("main", "jam", lane=1)`."""
        answer = self.tell(board, do="fault", kind=kind, **more)
        assert "error" not in answer, answer

    def lift(self, board: str, kind: str, **more: Any) -> None:
        answer = self.tell(board, do="lift", kind=kind, **more)
        assert "error" not in answer, answer

    def ledger(self, board: str) -> list[dict[str, Any]]:
        """The truth, oldest first; a line that is just being written is left out."""
        path = self.directory / f"{board}.jsonl"
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines if line]
