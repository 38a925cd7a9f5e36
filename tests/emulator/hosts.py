"""Hosts of the two protocols on an in-memory link, as strict as their pages, for tests."""

from __future__ import annotations

import asyncio
from typing import Any

from controller.boards.vbp import frames as vbp
from controller.boards.xy import frames as xy
from firmware_sim.board import EmulatedBoard, build_board
from firmware_sim.scenario import parse

LANE = "[[board.lane]]\nnumber = 10\nrun_ms = 1000\nfall_ms = 300\njitter = 0.1\ngoods = 8\n"


def scenario_text(protocol: str, head: str = "", lanes: str = LANE, faults: str = "") -> str:
    return f'[[board]]\nprotocol = "{protocol}"\nseed = 7\n{head}\n{lanes}\n{faults}\n'


def make_board(protocol: str, head: str = "", lanes: str = LANE, **more: Any) -> EmulatedBoard:
    faults = more.pop("faults", "")
    (settings,) = parse(scenario_text(protocol, head, lanes, faults)).boards
    return build_board(settings, **more)


class VbpHost:
    """A host that asks, one request at a time; events gather in `events`."""

    def __init__(self, board: EmulatedBoard) -> None:
        self.board = board
        self.decoder = vbp.Decoder()
        self.seq = 0
        self.answers: list[vbp.Frame] = []
        self.events: list[vbp.Event] = []
        self.wire: list[bytes] = []
        board.connect(self.received)

    def received(self, data: bytes) -> None:
        self.wire.append(data)
        for frame in self.decoder.feed(data):
            if frame.type == vbp.Type.EVENT:
                event = vbp.parse(frame)
                assert isinstance(event, vbp.Event)
                self.events.append(event)
            else:
                self.answers.append(frame)

    def send(self, request: vbp.Payload) -> bytes:
        self.seq += 1
        data = vbp.encode(request, self.seq)
        self.board.on_bytes(data)
        return data

    def ask(self, request: vbp.Payload) -> Any:
        """The answer to one request, which comes at once."""
        self.answers.clear()
        self.send(request)
        assert len(self.answers) == 1, self.answers
        assert self.answers[0].seq == self.seq
        return vbp.parse(self.answers[0])

    def hello(self) -> vbp.HelloAnswer:
        answer = self.ask(vbp.Hello())
        assert isinstance(answer, vbp.HelloAnswer)
        return answer

    def uptime(self) -> int:
        return int(self.ask(vbp.Status()).uptime_ms)

    def order(self, cycle_id: int, **more: Any) -> vbp.Dispense:
        values: dict[str, Any] = {
            "lane": 10,
            "options": vbp.Option.WATCH_EYE,
            "max_run_ms": 3000,
            "drop_wait_ms": 1000,
            "not_after_ms": (self.uptime() + 3000) % 2**32,
            **more,
        }
        return vbp.Dispense(cycle_id, **values)

    def dispense(self, cycle_id: int, **more: Any) -> vbp.Verdict:
        answer = self.ask(self.order(cycle_id, **more))
        return vbp.Verdict(answer.verdict)

    def result(self, cycle_id: int) -> vbp.ResultAnswer:
        answer = self.ask(vbp.GetResult(cycle_id))
        assert isinstance(answer, vbp.ResultAnswer)
        return answer


class XyHost:
    """A host that answers polls from a queue, acknowledges data, and notes all it hears."""

    def __init__(self, board: EmulatedBoard, *, delay: float = 0.01) -> None:
        self.board = board
        self.decoder = xy.Decoder()
        self.delay = delay
        self.heard: list[tuple[float, xy.Frame]] = []
        self.out: list[bytes] = []
        self.acknowledges = True
        self.answers_polls = True
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        board.connect(self.received)

    def received(self, data: bytes) -> None:
        for frame in self.decoder.feed(data):
            self.heard.append((self.loop.time() - self.began, frame))
            if frame.command == xy.Command.POLL:
                if self.answers_polls:
                    reply = self.out.pop(0) if self.out else xy.encode_frame(xy.ACK)
                    self.say(reply)
            elif frame.command != xy.Command.ACK and self.acknowledges:
                self.say(xy.encode_frame(xy.ACK))

    def say(self, data: bytes) -> None:
        self.loop.call_later(self.delay, self.board.on_bytes, data)

    def times(self, command: int) -> list[float]:
        return [at for at, frame in self.heard if frame.command == command]

    def frames(self, command: int) -> list[xy.Frame]:
        return [frame for _, frame in self.heard if frame.command == command]

    def statuses(self) -> list[tuple[int, int]]:
        """(code, lane) of each 04, repeats of one frame left out."""
        found: list[xy.Frame] = []
        for frame in self.frames(xy.Command.DISPENSING):
            if not found or found[-1] != frame:
                found.append(frame)
        payloads = [xy.DispensingStatus.decode(frame.text) for frame in found]
        return [(payload.status, payload.lane) for payload in payloads]
