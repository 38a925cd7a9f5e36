"""The firmware of an XY board: the master on the wire, and it forgets.

It polls, and hears the host only inside the answer window of a POLL or while it
waits for the ACK of a data frame; whatever arrives at another time is lost. What
its cycles are is in `xy_cycle`; this module is the conversation.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from controller.boards.vbp.frames import ResetCause
from controller.boards.xy import frames as xy
from firmware_sim.faults import CyclePlan, Fault
from firmware_sim.firmware.base import Parts, Timers
from firmware_sim.firmware.xy_cycle import Cycles, DriveCommand
from firmware_sim.machine import Stopped

FRAME_GAP_S = 0.005
"""Real: a board's pause between two frames of its own."""
HALF_FRAME_S = 0.1
"""Real: an answer that began in its window may end so much later."""
QUEUE_LIMIT = 1_000
"""Data frames waiting; a real board's buffer is far smaller, and drops the newest too."""
STORM_FRAMES = 20
MACHINE_NUMBER = "0000000001"
PRODUCT = 1
MENU_FAILED = b"\1"
SENSOR_ON = 1
SENSOR_OFF = 2


@dataclass(slots=True)
class Outgoing:
    """A data frame that waits for its exchange; its PackNO is given when it first goes."""

    command: int
    text: bytes
    repeats: int = 0
    """Sent so many times more although it was acknowledged."""
    then: Callable[[], None] | None = None
    sends: int = 0


class XyFirmware:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._machine = parts.machine
        self._timers = Timers(parts.timeline)
        self._decoder = xy.Decoder()
        self._alive = False
        self.ignored = 0
        """Bytes that came while the board was not listening."""
        self.stock = {number: lane.goods for number, lane in parts.machine.lanes.items()}
        """The board's own count, which no light eye corrects."""
        self.sensor_on = True
        self._clear_ram()

    def _clear_ram(self) -> None:
        self._queue: deque[Outgoing] = deque()
        self._pack_no = 1
        self._last_host_pack_no = 0
        self._interval = self._settings.poll_ms / 1000
        self._polled = False
        """A POLL's answer window is open."""
        self._sending = False
        """The head of the queue waits for its ACK."""
        self._window: asyncio.TimerHandle | None = None
        self._extended = False
        self._cycles = Cycles(self._parts, self._timers, self)

    # ------------------------------------------------------------------ life

    def start(self, cause: ResetCause) -> None:  # noqa: ARG002  VBP boards tell theirs
        """Whatever the cause, the host hears a 31 and nothing of what was before."""
        self._clear_ram()
        self._alive = True
        self.queue(Outgoing(xy.Command.SYNC, b""))
        self._timers.later(self._interval, self._tick)

    def halt(self) -> None:
        self._alive = False
        self._timers.cancel_all()
        self._clear_ram()

    def perform(self, fault: Fault) -> None:
        if fault.kind == "status_storm":
            for _ in range(fault.count or STORM_FRAMES):
                self.queue(self._machine_status())

    def state(self) -> dict[str, Any]:
        return {
            "running_cycle": self._cycles.running,
            "queued_frames": len(self._queue),
            "waiting_commands": self._cycles.waiting,
            "pack_no": self._pack_no,
            "stock": self.stock,
            "sensor_on": self.sensor_on,
            "frames_ok": self._decoder.frames_ok,
            "frames_bad": self._decoder.frames_bad,
            "bytes_ignored": self.ignored,
        }

    def on_stopped(self, stopped: Stopped) -> None:
        if self._alive:
            self._cycles.stopped(stopped)

    def on_eye(self, blocked: bool) -> None:  # noqa: FBT001
        if self._alive and blocked:
            self._cycles.eye_darkened()

    def on_door(self, is_open: bool) -> None:  # noqa: ARG002, FBT001
        if self._alive:
            self.queue(self._machine_status())

    # ------------------------------------------------------------------ turn taking

    def _tick(self) -> None:
        self._timers.later(self._interval, self._tick)
        if self._polled or self._sending or self._parts.faults.is_on("poll_gap"):
            return
        if self._queue:
            self._send_head()
            return
        self._polled = True
        self._listen(self._settings.answer_window_ms)
        self._parts.wire.send(xy.encode_frame(xy.POLL), poll=True)

    def queue(self, outgoing: Outgoing) -> None:
        """Send it when the line is free."""
        if len(self._queue) < QUEUE_LIMIT:
            self._queue.append(outgoing)
            self._timers.later(FRAME_GAP_S, self._pump)

    def _pump(self) -> None:
        free = not self._polled and not self._sending
        if free and self._queue and not self._parts.faults.is_on("poll_gap"):
            self._send_head()

    def _send_head(self) -> None:
        head = self._queue[0]
        head.sends += 1
        self._sending = True
        self._listen(self._settings.ack_timeout_ms)
        self._parts.wire.send(
            xy.encode_frame(xy.Frame(head.command, self._pack_no, head.text)),
        )

    def _listen(self, milliseconds: float) -> None:
        self._decoder.drop_partial()
        self._extended = False
        self._timers.cancel(self._window)
        self._window = self._timers.later(milliseconds / 1000, self._silence)

    def _silence(self) -> None:
        """The window is over. An answer that began in it may still end."""
        if self._decoder.partial and not self._extended:
            self._extended = True
            self._window = self._timers.later(HALF_FRAME_S, self._silence)
            return
        self._polled = False
        if not self._sending:
            self._pump()
        elif self._queue[0].sends >= xy.MAX_SENDS:
            # Given up; the PackNO is not used up, as no exchange succeeded.
            self._sending = False
            self._queue.popleft()
            self._pump()
        elif self._parts.faults.is_on("poll_gap"):
            self._sending = False  # sent again by the first tick after the gap
        else:
            self._send_head()

    def _close_window(self) -> None:
        self._timers.cancel(self._window)
        self._window = None
        self._polled = False

    def on_bytes(self, data: bytes) -> None:
        if not self._alive:
            return
        if not self._polled and not self._sending:
            self.ignored += len(data)
            return
        for frame in self._decoder.feed(data):
            if self._sending and frame.command == xy.Command.ACK:
                self._acknowledged()
                return
            if self._polled:
                self._close_window()
                if frame.command != xy.Command.ACK:
                    self._command(frame)
                self._timers.later(FRAME_GAP_S, self._pump)
                return

    def _acknowledged(self) -> None:
        self._close_window()
        self._sending = False
        head = self._queue[0]
        if head.repeats:
            head.repeats -= 1
            head.sends = 0
        else:
            self._queue.popleft()
            self._pack_no = xy.next_pack_no(self._pack_no)
            if head.then is not None:
                head.then()
        self._timers.later(FRAME_GAP_S, self._pump)

    # ------------------------------------------------------------------ commands

    def _command(self, frame: xy.Frame) -> None:
        served = SERVED.get(frame.command)
        if served is None or not frame.pack_no:
            return
        lengths, serve = served
        if frame.command == xy.Command.DRIVE:
            lengths = (self._settings.drive_length,)
        if len(frame.text) + 1 not in lengths:
            return
        repeated = frame.pack_no == self._last_host_pack_no
        self._last_host_pack_no = frame.pack_no
        if repeated and self._settings.dedupe:
            self.acknowledge()
            return
        serve(self, frame)

    def acknowledge(self, plan: CyclePlan | None = None) -> None:
        """The canonical ACK, unless a fault wants none or another."""
        faults = self._parts.faults
        if faults.is_on("no_ack"):
            return
        longer = faults.is_on("ack_length_one")
        ack = xy.Frame(xy.Command.ACK, self._last_host_pack_no) if longer else xy.ACK
        self._parts.wire.send(xy.encode_frame(ack), plan=plan)

    def forget_command(self) -> None:
        """It was lost, or not taken: the same number again is no repeat."""
        self._last_host_pack_no = 0

    def data_before_ack(self, plan: CyclePlan) -> None:
        """A status frame slips in between a command and its ACK."""
        status = self._machine_status()
        status.then = lambda: self.acknowledge(plan)
        self._queue.appendleft(status)
        self._send_head()

    def tell_status(self, code: int, lane: int, repeats: int = 0) -> None:
        text = bytes((code,)) + xy.lane_bytes(lane)
        self.queue(Outgoing(xy.Command.DISPENSING, text, repeats))

    def serve_drive(self, frame: xy.Frame) -> None:
        drive = xy.Drive.decode(frame.text)
        pack_no = frame.pack_no or 0
        self._cycles.command(
            DriveCommand(drive.lane, drive.drop_sensor, pack_no, elevator=drive.elevator)
        )

    def serve_buy(self, frame: xy.Frame) -> None:
        """Nothing has a price here: the board's own logic lets every purchase pass."""
        lane = xy.lane_of(frame.text)
        self._cycles.command(DriveCommand(lane, self.sensor_on, frame.pack_no or 0))

    def serve_check(self, frame: xy.Frame) -> None:
        self.acknowledge()
        lane = xy.lane_of(frame.text[:2])
        status = xy.LaneCheck.NORMAL
        if lane not in self.stock:
            status = xy.LaneCheck.NO_SUCH_LANE
        elif not self.stock[lane]:
            status = xy.LaneCheck.OUT_OF_STOCK
        self.queue(Outgoing(xy.Command.LANE_CHECK, bytes((status,)) + xy.lane_bytes(lane)))

    def serve_sync(self, _frame: xy.Frame) -> None:
        self.acknowledge()
        for number in self._machine.lanes:
            text = xy.REPORT.pack(
                number, 0, min(self.stock[number], 255), self._capacity(number), PRODUCT, 0
            )
            self.queue(Outgoing(xy.Command.LANE_REPORT, text))

    def serve_interval(self, frame: xy.Frame) -> None:
        steps = frame.text[0]
        if 1 <= steps <= 20:  # noqa: PLR2004  what the maker documents
            self._interval = steps / 10
            self.acknowledge()

    def serve_nothing(self, _frame: xy.Frame) -> None:
        """Known to the board, and without consequence for this machine."""
        self.acknowledge()

    def serve_status(self, _frame: xy.Frame) -> None:
        self.acknowledge()
        self.queue(self._machine_status())

    def serve_elevator(self, _frame: xy.Frame) -> None:
        self.acknowledge()
        self.queue(Outgoing(xy.Command.ELEVATOR_STATUS, bytes((xy.ElevatorState.OK,))))

    def serve_menu(self, frame: xy.Frame) -> None:
        kind, op, params = frame.text[0], frame.text[1], frame.text[2:]
        if kind == xy.MenuType.TEST_LANE and len(params) == 3:  # noqa: PLR2004  type and lane
            lane = xy.lane_of(params[1:])
            self._cycles.command(DriveCommand(lane, self.sensor_on, frame.pack_no or 0))
            data: bytes | None = bytes((xy.MENU_OK,))
        else:
            self.acknowledge()
            data = self._menu_data(kind, op, params)
        answer = bytes((kind, op)) + (MENU_FAILED if data is None else data)
        self.queue(Outgoing(xy.Command.MENU_ANSWER, answer))

    def _menu_data(self, kind: int, op: int, params: bytes) -> bytes | None:
        """None: the board cannot do that."""
        done = bytes((xy.MENU_OK,))
        match kind, op:
            case xy.MenuType.DROP_SENSOR, xy.MenuOp.READ:
                return bytes((SENSOR_ON if self.sensor_on else SENSOR_OFF,))
            case xy.MenuType.DROP_SENSOR, xy.MenuOp.SET if len(params) == 2:  # noqa: PLR2004
                self.sensor_on = params[1] == SENSOR_ON
                return done
            case xy.MenuType.DROP_SENSOR_SELF_TEST, _:
                fitted = self._settings.eye and not self._machine.eye_faulty
                return bytes((xy.MENU_OK, 0 if fitted else 1))
            case ((xy.MenuType.JAM_LIST | xy.MenuType.MOTOR_ERROR_LIST), _):
                return self._cycles.error_list(kind, clear=op == xy.MenuOp.SET)
            case xy.MenuType.LANE_CONFIG, xy.MenuOp.READ if len(params) == 2:  # noqa: PLR2004
                return self._lane_config(xy.lane_of(params))
        return None

    def _lane_config(self, lane: int) -> bytes | None:
        if lane not in self.stock:
            return None
        stock = self.stock[lane].to_bytes(2, "big")
        mode = 1 if self._machine.lanes[lane].settings.kind == "spiral" else 2
        sensor_off = 0 if self.sensor_on else 1
        head = bytes(4) + stock + bytes((self._capacity(lane),)) + PRODUCT.to_bytes(2, "big")
        return head + bytes((mode, sensor_off, 0, 0))

    def _capacity(self, lane: int) -> int:
        return min(255, max(self._machine.lanes[lane].settings.goods, self.stock[lane]))

    def _machine_status(self) -> Outgoing:
        temperature = self._settings.temperature
        status = xy.MachineStatus(
            temperature=temperature,
            door=int(self._machine.door_open),
            machine_number=MACHINE_NUMBER,
            temperatures=(temperature, *(None,) * 7),
        )
        whole = status.encode(1)
        return Outgoing(xy.Command.MACHINE_STATUS, whole[5:-1])


LENGTH_OF_LANE = (3,)
SERVED: dict[int, tuple[tuple[int, ...], Callable[[XyFirmware, xy.Frame], None]]] = {
    xy.Command.CHECK_LANE: ((3, 4), XyFirmware.serve_check),  # the document prints both
    xy.Command.SELECT_TO_BUY: (LENGTH_OF_LANE, XyFirmware.serve_buy),
    xy.Command.SELECTED: (LENGTH_OF_LANE, XyFirmware.serve_nothing),
    xy.Command.DRIVE: (xy.DRIVE_LENGTHS, XyFirmware.serve_drive),
    xy.Command.POLL_INTERVAL: ((2,), XyFirmware.serve_interval),
    xy.Command.SYNC: ((1,), XyFirmware.serve_sync),
    xy.Command.ASK_STATUS: ((1,), XyFirmware.serve_status),
    xy.Command.ASK_ELEVATOR: ((1,), XyFirmware.serve_elevator),
    xy.Command.MENU: (tuple(range(3, 40)), XyFirmware.serve_menu),
}
"""Command -> the lengths that the firmware takes, and what it does. Others it ignores."""
