"""Where a board's cable ends: a pty with a link to it, a TCP listener, a real serial port.

Bytes for which nobody is there are lost, as on a real line: a host that opens the
port later does not find them.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import socket
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from firmware_sim.board import EmulatedBoard

READ_BYTES = 4096
OPEN_CHECK_S = 0.02
"""How often an unopened pty is asked whether a host came: the kernel gives no event for it."""
REOPEN_S = 0.5
"""Between two looks for a serial adapter that was pulled out."""
TIOCGEXCL = 0x80045440
"""ioctl_tty(2): whether a terminal is in exclusive mode."""
BAUDRATES = {"vbp": 115_200, "xy": 57_600}
"""By the protocols' documents."""


class PortError(Exception):
    """The port cannot be provided; the message says which and why."""


class Port(Protocol):
    async def open(self) -> None:
        """Raises PortError."""
        ...

    def close(self) -> None:
        """The cable is gone, and what stood for it on the file system too."""
        ...


class BoardEnd(Protocol):
    """What stands behind a cable: an emulated board, or a replayed one."""

    def connect(self, write: Callable[[bytes], None]) -> None: ...
    def disconnect(self) -> None: ...
    def on_bytes(self, data: bytes) -> None: ...


class PtyPort:
    """A fresh pty behind a link of a fixed name.

    When the host closes it, the pty is replaced by a new one: the kernel keeps
    what was in flight, and the exclusive flag of a host that was killed, on the
    old one for as long as we hold its other end.
    """

    def __init__(self, path: Path, board: BoardEnd) -> None:
        self._path = path
        self._board = board
        self._master = -1
        self._slave = ""
        self._host_there = False
        self._check: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        try:
            self._replace()
        except OSError as error:
            raise PortError(
                f"pty:{self._path}: cannot be made: {error.strerror or error}"
            ) from error

    def close(self) -> None:
        self._drop()
        if self._path.is_symlink() and str(self._path.readlink()) == self._slave:
            self._path.unlink()

    def write(self, data: bytes) -> None:
        if not self._host_there:
            return
        try:
            os.write(self._master, data)
        except OSError:
            return  # the host does not read, or is just closing: the bytes are lost

    def _replace(self) -> None:
        self._drop()
        if os.path.lexists(self._path) and not self._path.is_symlink():
            raise FileExistsError("something that is no link is in its place: name another path")
        self._master, slave = os.openpty()
        tty.setraw(slave)
        self._slave = os.ttyname(slave)
        os.close(slave)
        os.set_blocking(self._master, False)
        fresh = self._path.with_name(self._path.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self._slave)
        fresh.replace(self._path)
        self._board.connect(self.write)
        self._wait_for_host()

    def _drop(self) -> None:
        self._board.disconnect()
        self._host_there = False
        if self._check is not None:
            self._check.cancel()
        if self._master >= 0:
            self._loop.remove_reader(self._master)
            os.close(self._master)
            self._master = -1

    def _wait_for_host(self) -> None:
        """While nobody has it open, the pty is in hang-up; no event tells that it ends."""
        asker = select.poll()
        asker.register(self._master, select.POLLIN)
        if any(event & select.POLLHUP for _, event in asker.poll(0)):
            if self._left_claimed():
                self._replace()
                return
            self._check = self._loop.call_later(OPEN_CHECK_S, self._wait_for_host)
            return
        self._host_there = True
        self._loop.add_reader(self._master, self._readable)

    def _left_claimed(self) -> bool:
        """A host came and died between two checks, and its exclusive flag stays on the pty."""
        try:
            line = os.open(self._slave, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            return True  # EBUSY: root alone is let in
        try:
            return fcntl.ioctl(line, TIOCGEXCL, bytes(4)) != bytes(4)
        finally:
            os.close(line)

    def _readable(self) -> None:
        try:
            data = os.read(self._master, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._replace()  # the host closed it
            return
        self._board.on_bytes(data)


class TcpPort(asyncio.Protocol):
    """A listener for one host at a time, as a serial-to-network box is; a second is refused."""

    def __init__(self, host: str, port: int, board: BoardEnd) -> None:
        self._host = host
        self._port = port
        self._board = board
        self._server: asyncio.Server | None = None
        self._transport: asyncio.Transport | None = None

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: _TcpHost(self), self._host, self._port, reuse_address=True
            )
        except OSError as error:
            raise PortError(f"tcp:{self._host}:{self._port}: {error.strerror}") from error

    @property
    def number(self) -> int:
        """The port that it listens on, also where the scenario said 0."""
        sockets = self._server.sockets if self._server else ()
        return int(sockets[0].getsockname()[1]) if sockets else 0

    def close(self) -> None:
        self._board.disconnect()
        if self._server is not None:
            self._server.close()
        if self._transport is not None:
            self._transport.abort()

    def came(self, transport: asyncio.Transport) -> bool:
        if self._transport is not None:
            return False
        self._transport = transport
        wire = transport.get_extra_info("socket")
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._board.connect(self.write)
        return True

    def write(self, data: bytes) -> None:
        if self._transport is None or self._transport.get_write_buffer_size() > READ_BYTES:
            return  # the host does not read: the bytes are lost
        self._transport.write(data)

    def sent(self, transport: asyncio.Transport, data: bytes) -> None:
        if transport is self._transport:
            self._board.on_bytes(data)

    def went(self, transport: asyncio.Transport) -> None:
        if transport is self._transport:
            self._transport = None
            self._board.disconnect()


class _TcpHost(asyncio.Protocol):
    """One connection of a host."""

    def __init__(self, port: TcpPort) -> None:
        self._port = port
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            return
        self._transport = transport
        if not self._port.came(transport):
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._transport is not None:
            self._port.sent(self._transport, data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the base's name
        if self._transport is not None:
            self._port.went(self._transport)


class SerialPort:
    """A real serial port: the emulator stands in for hardware over a cable.

    An adapter that is pulled out is opened again, under the same name, when it is back.
    """

    def __init__(self, device: str, baudrate: int, board: EmulatedBoard) -> None:
        self._device = device
        self._baudrate = baudrate
        self._board = board
        self._fd = -1
        self._release: Callable[[], None] = lambda: None
        self._retry: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        self._open()

    def _open(self) -> None:
        import serial  # only a cable needs it

        try:
            port = serial.Serial(self._device, self._baudrate, timeout=0, exclusive=True)
        except (OSError, ValueError) as error:
            raise PortError(f"serial:{self._device}: {error}") from error
        self._release = port.close
        self._fd = port.fileno()
        os.set_blocking(self._fd, False)
        self._board.connect(self.write)
        self._loop.add_reader(self._fd, self._readable)

    def close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._drop()

    def _drop(self) -> None:
        self._board.disconnect()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._fd = -1
            self._release()

    def write(self, data: bytes) -> None:
        try:
            os.write(self._fd, data)
        except OSError:
            return  # no room, or the adapter is gone: the bytes are lost

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._gone()
            return
        if data:
            self._board.on_bytes(data)
        elif self._hung_up():  # else a read that found nothing: VMIN is 0
            self._gone()

    def _hung_up(self) -> bool:
        asker = select.poll()
        asker.register(self._fd, select.POLLIN)
        return any(event & select.POLLHUP for _, event in asker.poll(0))

    def _gone(self) -> None:
        self._drop()
        self._board.ledger.write("unplugged")
        self._retry = self._loop.call_later(REOPEN_S, self._reopen)

    def _reopen(self) -> None:
        try:
            self._open()
        except PortError:
            self._retry = self._loop.call_later(REOPEN_S, self._reopen)
        else:
            self._board.ledger.write("plugged")


def make_cable_port(named: str, board: BoardEnd) -> Port:
    """`pty:/path` or `tcp:HOST:NUMBER`, not yet open. Raises PortError."""
    kind, _, rest = named.partition(":")
    if kind == "pty" and rest:
        return PtyPort(Path(rest), board)
    host, _, number = rest.rpartition(":")
    if kind == "tcp" and number.isascii() and number.isdigit() and int(number) < 65536:  # noqa: PLR2004  a port's range
        return TcpPort(host, int(number), board)
    raise PortError(f"port {named!r} is neither pty:/path/of/link nor tcp:HOST:NUMBER")


def make_port(board: EmulatedBoard) -> Port:
    """The port that the board's scenario names, not yet open. Raises PortError."""
    kind, _, rest = board.settings.port.partition(":")
    if kind in {"pty", "tcp"}:
        return make_cable_port(board.settings.port, board)
    if kind == "serial":
        baudrate = board.settings.baudrate or BAUDRATES[board.settings.protocol]
        return SerialPort(rest, baudrate, board)
    raise PortError(f"the board has no port: write port = {'pty:/path/of/link'!r} in its table")


class Cable:
    """The board's port, in and out with the faults `unplug`."""

    def __init__(self, board: EmulatedBoard) -> None:
        self._port = make_port(board)
        self._board = board
        self._opening: asyncio.Task[None] | None = None
        self._is_real = isinstance(self._port, SerialPort)
        board.on_plug = self.plug

    @property
    def port(self) -> Port:
        return self._port

    async def open(self) -> None:
        if self._board.wire.plugged:
            await self._port.open()

    def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
        self._port.close()

    def plug(self, plugged: bool) -> None:  # noqa: FBT001  the board's callback
        """A real cable cannot be pulled from here: its bytes are lost instead."""
        if self._is_real:
            return
        if not plugged:
            self.close()
        elif self._opening is None or self._opening.done():
            self._opening = asyncio.get_running_loop().create_task(
                self._reopen(), name=f"plug {self._board.settings.port}"
            )

    async def _reopen(self) -> None:
        try:
            await self._port.open()
        except PortError as error:
            self._board.ledger.write("plug_failed", why=str(error)[:200])
