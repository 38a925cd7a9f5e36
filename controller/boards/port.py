"""One port, kept narrow: open it, bytes come, bytes go, it is gone.

`Port` is the seam where tests and a simulation put a link in memory. The real
ones are a serial line (a pty is one too) by pyserial and pyserial-asyncio, and
`tcp://host:port` for a serial server. A port opens once per call of `open` and
resolves its path anew each time, so that a by-path name survives renumbering;
who wants it open for ever uses `reopen_for_ever`.

Not toggled: DTR and RTS. Linux raises both at the first open; HUPCL is cleared
so that closing and reopening leaves them up and no board is reset by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import termios
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, cast
from urllib.parse import urlsplit

import serial
import serial_asyncio

from controller import prose
from controller.dispensing.interfaces import Clock
from controller.errors import BoardError, BoardOffline, ConfigError, JournalError

REOPEN_FIRST_S = 0.2
"""After a line that worked: an adapter that renumbers is back within this."""
REOPEN_MAX_S = 2.0
"""A cable plugged back in works within this, without a restart; looking twice
a second or less often costs nothing."""
WRITE_STALL_S = 1.0
"""Output that the line does not take for this long is stuck. Our frames are under
300 bytes: 50 ms at 57600 baud, so no sound line comes near."""
TCP_CONNECT_S = 5.0
"""A serial server in the same building answers in milliseconds; SYNs repeat after 1 and 3 s."""

READ_BYTES = 4096
"""Taken from a socket at once: a decoder is done with it in some 10 ms, whatever it is, so a
peer that floods keeps no other board waiting past its answer window. A serial line gives 1024."""

PSEUDO_TERMINALS = "/dev/pts/"

Receive = Callable[[bytes], None]
Lost = Callable[[str], None]
Trace = Callable[[str, bytes, float], None]
"""direction ("in" or "out"), the bytes, the loop's monotonic time."""


@dataclass(slots=True)
class Traffic:
    """What passed a port since the daemon's start."""

    bytes_in: int = 0
    bytes_out: int = 0
    opens: int = 0
    failed_opens: int = 0
    losses: int = 0
    trace: Trace | None = None

    def came(self, data: bytes) -> None:
        self.bytes_in += len(data)
        if self.trace is not None:
            self.trace("in", data, asyncio.get_running_loop().time())

    def left(self, data: bytes) -> None:
        self.bytes_out += len(data)
        if self.trace is not None:
            self.trace("out", data, asyncio.get_running_loop().time())


class Line(Protocol):
    """A port while it is open."""

    def write(self, data: bytes) -> None:
        """Never waits. Raises BoardOffline, and no byte left, when the line is gone."""
        ...

    def abort(self) -> None:
        """Close at once; what is not yet out is dropped. `lost` is not called any more."""
        ...


class Port(Protocol):
    @property
    def spec(self) -> str: ...
    @property
    def traffic(self) -> Traffic: ...
    async def open(self, receive: Receive, lost: Lost) -> Line:
        """`lost(why)` is called at most once. Raises BoardOffline with path, cause, remedy."""
        ...


PortFactory = Callable[[str, int, Clock], Port]
"""(the configured port, baud rate, clock) -> a port, not yet open."""


def real_port(spec: str, baudrate: int, clock: Clock) -> Port:
    """A serial device's path, or `tcp://host:port`. Raises ConfigError for a bad URL."""
    if "://" not in spec:
        return SerialPort(spec, baudrate)
    try:
        url = urlsplit(spec)
        host, number = url.hostname, url.port
        (host or "").encode("idna")  # as getaddrinfo will: a UnicodeError is a ValueError
    except ValueError:
        host = number = None
    if not spec.startswith("tcp://") or not host or not host.isprintable() or not number:
        raise ConfigError(
            f"port {spec!r} is neither a device's path nor tcp://host:port; "
            "write the path of the device, like /dev/serial/by-path/…, or tcp://192.168.1.5:4001"
        )
    return TcpPort(spec, host, number, clock)


async def reopen_for_ever(
    clock: Clock,
    converse: Callable[[], Awaitable[bool]],
    troubled: Callable[[str], Awaitable[None]],
) -> None:
    """Repeat `converse`, which opens, talks until the line is gone, and says whether it was usable.

    The pause grows from REOPEN_FIRST_S to REOPEN_MAX_S until it was. A journal
    that cannot take what the board said ends a conversation like a lost line:
    the board keeps it until it is asked again.
    """
    pause = REOPEN_FIRST_S
    while True:
        usable = False
        try:
            usable = await converse()
        except (BoardError, JournalError) as trouble:
            with contextlib.suppress(JournalError):
                await troubled(str(trouble))
        pause = REOPEN_FIRST_S if usable else min(REOPEN_MAX_S, pause * 2)
        await clock.sleep(pause)


# ------------------------------------------------------------------------ real ports


class SerialPort:
    """A local serial device or a pty, exclusively ours while open."""

    def __init__(self, path: str, baudrate: int) -> None:
        self.spec = path
        self.traffic = Traffic()
        self._baudrate = baudrate

    async def open(self, receive: Receive, lost: Lost) -> Line:
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(None, _open_device, self.spec, self._baudrate)
        try:
            device = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unwanted)
            raise
        except (OSError, ValueError, termios.error) as error:
            self.traffic.failed_opens += 1
            raise BoardOffline(explain(self.spec, error)) from error
        channel = _Channel(self.spec, self.traffic, receive, lost, device)
        transport, _ = await serial_asyncio.connection_for_serial(loop, lambda: channel, device)
        channel.connection_made(transport)  # it would come by itself, but only in the next round
        self.traffic.opens += 1
        return channel


class TcpPort:
    """The byte stream of a serial server (ser2net, a Moxa, an ESP32 bridge)."""

    def __init__(self, spec: str, host: str, number: int, clock: Clock) -> None:
        self.spec = spec
        self.traffic = Traffic()
        self._address = (host, number)
        self._clock = clock

    async def open(self, receive: Receive, lost: Lost) -> Line:
        loop = asyncio.get_running_loop()
        channel = _TcpChannel(self.spec, self.traffic, receive, lost)
        try:
            async with self._clock.timeout(TCP_CONNECT_S):
                transport, _ = await loop.create_connection(lambda: channel, *self._address)
        except OSError as error:  # TimeoutError is one
            self.traffic.failed_opens += 1
            raise BoardOffline(explain(self.spec, error)) from error
        peer: socket.socket = transport.get_extra_info("socket")
        # A frame of 20 bytes must not wait for the acknowledgement of the last one.
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.traffic.opens += 1
        return channel


def _open_device(path: str, baudrate: int) -> serial.Serial:
    """Runs in a thread: opening a device may block. pyserial flushes the input."""
    device = serial.Serial(path, baudrate, timeout=0, write_timeout=0, exclusive=True)
    try:
        descriptor = device.fileno()
        # flock keeps out only those who ask for it; TIOCEXCL everybody but root. Not on a
        # pty: there the mark outlives our close and would keep ourselves out for ever.
        if not os.path.realpath(path).startswith(PSEUDO_TERMINALS):
            fcntl.ioctl(descriptor, termios.TIOCEXCL)
        attributes = termios.tcgetattr(descriptor)
        attributes[2] &= ~termios.HUPCL
        termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
    except BaseException:
        device.close()
        raise
    return device


def _close_unwanted(opening: asyncio.Future[serial.Serial]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


class _Channel(asyncio.Protocol):
    """One open line: counts, notices its end once, and does not let output get stuck."""

    def __init__(
        self,
        spec: str,
        traffic: Traffic,
        receive: Receive,
        lost: Lost,
        device: serial.Serial | None = None,
    ) -> None:
        self._spec = spec
        self._traffic = traffic
        self._receive = receive
        self._lost = lost
        self._device = device
        self._transport: asyncio.Transport | None = None
        self._made = False
        self._over = False
        self._stall: asyncio.TimerHandle | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._made:
            return
        self._made = True
        self._transport = cast("asyncio.Transport", transport)
        # pause_writing as soon as anything waits: the stall timer then runs.
        self._transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        if not self._over:
            self._traffic.came(data)
            self._receive(data)

    def connection_lost(self, exc: Exception | None) -> None:
        cause = f": {exc}" if exc is not None else " by the other side"
        self._transport = None
        self._end(f"{self._spec}: the line is gone{cause}")

    def pause_writing(self) -> None:
        if self._stall is None:
            loop = asyncio.get_running_loop()
            self._stall = loop.call_later(WRITE_STALL_S, self._stalled)

    def resume_writing(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    # Line

    def write(self, data: bytes) -> None:
        transport = self._transport
        if self._over or transport is None or transport.is_closing():
            raise BoardOffline(prose.LINE_GONE.format(port=self._spec))
        sent = 0
        if self._device is not None and transport.get_write_buffer_size() == 0:
            # Straight to the device: pyserial-asyncio would wait for the loop's next round.
            try:
                sent = os.write(self._device.fileno(), data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._end(explain(self._spec, error))
                raise BoardOffline(explain(self._spec, error)) from error
        self._traffic.left(data)
        if sent < len(data):
            transport.write(data[sent:])

    def abort(self) -> None:
        self._over = True
        self._drop()

    # its end

    def _stalled(self) -> None:
        self._stall = None
        self._end(
            f"{self._spec}: output is stuck for {WRITE_STALL_S:g} s; "
            "is the other end powered and reading?"
        )

    def _end(self, why: str) -> None:
        if self._over:
            return
        self._over = True
        self._traffic.losses += 1
        self._drop()
        self._lost(why)

    def _drop(self) -> None:
        self.resume_writing()
        transport, self._transport = self._transport, None
        if transport is None:
            return
        if self._device is not None:
            # connection_lost drains the output first, which blocks while it is stuck.
            with contextlib.suppress(OSError, termios.error):
                self._device.reset_output_buffer()
            if transport.is_closing() and transport.get_write_buffer_size() == 0:
                return  # its end is already on the way, and it cannot end twice
        transport.abort()


class _TcpChannel(_Channel, asyncio.BufferedProtocol):
    """Bounds what is read at once; see READ_BYTES."""

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002  asyncio's name
        self._room = bytearray(READ_BYTES)
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._room[:nbytes]))


REMEDIES = {
    errno.ENOENT: prose.CABLE_OUT,
    errno.ENODEV: prose.ADAPTER_OUT,
    errno.ENXIO: prose.ADAPTER_OUT,
    errno.EIO: prose.OTHER_END_GONE,
    errno.EACCES: prose.NOT_PERMITTED,
    errno.EPERM: prose.NOT_PERMITTED,
    errno.EBUSY: prose.PORT_BUSY,
    errno.EAGAIN: prose.PORT_BUSY,
    errno.ECONNREFUSED: prose.NOBODY_LISTENS,
    errno.EHOSTUNREACH: prose.SERVER_AWAY,
    errno.ETIMEDOUT: prose.SERVER_AWAY,
}


def explain(spec: str, error: Exception) -> str:
    """Path, cause and remedy of an error of the operating system, on one line."""
    number = getattr(error, "errno", None)
    if number is None and isinstance(error, TimeoutError):
        number = errno.ETIMEDOUT
    cause = os.strerror(number) if number is not None else str(error)[:200] or "no answer"
    return REMEDIES.get(number or 0, "{port}: {cause}").format(port=spec, cause=cause)
