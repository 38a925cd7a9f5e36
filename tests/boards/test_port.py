"""The real port on a real pty and a real socket: owned, lost, stuck, reopened, explained."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import pty
import socket
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.boards.port import (
    Port,
    SerialPort,
    TcpPort,
    explain,
    real_port,
    reopen_for_ever,
)
from controller.errors import BoardOffline, ConfigError
from tests.boards.support import CLOCK, until


class Cable:
    """A pty and a stable name for it, like a by-path link of udev."""

    def __init__(self, name: Path) -> None:
        self.name = name
        self.master = -1
        self.plug()

    def plug(self) -> None:
        self.master, slave = pty.openpty()
        os.set_blocking(self.master, False)
        self.name.unlink(missing_ok=True)
        self.name.symlink_to(os.ttyname(slave))
        os.close(slave)

    def unplug(self) -> None:
        if self.master >= 0:
            os.close(self.master)
        self.master = -1
        self.name.unlink(missing_ok=True)

    def read(self) -> bytes:
        try:
            return os.read(self.master, 65536)
        except (BlockingIOError, OSError):
            return b""


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    cable = Cable(tmp_path / "board0")
    yield cable
    cable.unplug()


class Ear:
    def __init__(self) -> None:
        self.data = b""
        self.lost: list[str] = []

    def receive(self, data: bytes) -> None:
        self.data += data

    def gone(self, why: str) -> None:
        self.lost.append(why)


async def test_bytes_go_and_come_and_are_counted_and_traced(cable: Cable) -> None:
    port, ear = SerialPort(str(cable.name), 115200), Ear()
    traced: list[tuple[str, bytes]] = []
    port.traffic.trace = lambda way, data, _at: traced.append((way, data))
    line = await port.open(ear.receive, ear.gone)
    line.write(b"\x00\x03\xff\n\r\x11\x13")
    assert cable.read() == b"\x00\x03\xff\n\r\x11\x13", "raw, and out at once"
    os.write(cable.master, b"\xfa\xfb\x00\r\n")
    await until(lambda: ear.data == b"\xfa\xfb\x00\r\n")
    line.abort()
    assert traced == [("out", b"\x00\x03\xff\n\r\x11\x13"), ("in", b"\xfa\xfb\x00\r\n")]
    assert (port.traffic.bytes_out, port.traffic.bytes_in, port.traffic.opens) == (7, 5, 1)
    await asyncio.sleep(0.01)
    assert ear.lost == [], "we closed it: that is no loss"


async def test_unplugged_is_noticed_at_once_and_no_write_is_swallowed(cable: Cable) -> None:
    port, ear = SerialPort(str(cable.name), 115200), Ear()
    line = await port.open(ear.receive, ear.gone)
    cable.unplug()
    async with asyncio.timeout(1):
        await until(lambda: len(ear.lost) == 1)
    assert str(cable.name) in ear.lost[0]
    with pytest.raises(BoardOffline):
        line.write(b"x")
    assert port.traffic.losses == 1
    line.abort()


async def test_a_write_to_a_dead_pty_raises_or_was_lost_before(cable: Cable) -> None:
    port, ear = SerialPort(str(cable.name), 115200), Ear()
    line = await port.open(ear.receive, ear.gone)
    cable.unplug()
    with pytest.raises(BoardOffline, match="board0"):
        line.write(b"x")  # before the loop had a chance to notice
    assert len(ear.lost) == 1
    await asyncio.sleep(0.05)
    assert len(ear.lost) == 1


async def test_input_that_waited_before_the_open_is_flushed(cable: Cable) -> None:
    holder = os.open(cable.name, os.O_RDWR | os.O_NOCTTY)
    os.write(cable.master, b"stale\n")
    port, ear = SerialPort(str(cable.name), 115200), Ear()
    line = await port.open(ear.receive, ear.gone)
    os.write(cable.master, b"fresh")
    await until(lambda: len(ear.data) >= 5)
    assert ear.data == b"fresh"
    line.abort()
    os.close(holder)


async def test_output_that_nobody_reads_loses_the_line_and_never_blocks(cable: Cable) -> None:
    port, ear = SerialPort(str(cable.name), 115200), Ear()
    line = await port.open(ear.receive, ear.gone)
    loop = asyncio.get_running_loop()
    slowest = 0.0
    async with asyncio.timeout(5):
        while not ear.lost:
            started = loop.time()
            try:
                line.write(bytes(200))
            except BoardOffline:
                break
            slowest = max(slowest, loop.time() - started)
            await asyncio.sleep(0.01)
        await until(lambda: len(ear.lost) == 1)
    assert "stuck" in ear.lost[0]
    assert slowest < 0.2
    line.abort()


async def test_the_port_is_ours_alone(cable: Cable) -> None:
    first, second = (SerialPort(str(cable.name), 115200) for _ in range(2))
    ear = Ear()
    line = await first.open(ear.receive, ear.gone)
    with pytest.raises(BoardOffline, match="another process owns it"):
        await second.open(ear.receive, ear.gone)
    assert second.traffic.failed_opens == 1
    line.abort()
    async with asyncio.timeout(2):
        await until(lambda: not _locked(cable.name))
    again = await second.open(ear.receive, ear.gone)
    again.abort()


def _locked(path: Path) -> bool:
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


async def test_closing_does_not_drop_dtr(cable: Cable) -> None:
    fd = os.open(cable.name, os.O_RDWR | os.O_NOCTTY)
    attributes = termios.tcgetattr(fd)
    attributes[2] |= termios.HUPCL  # a serial device's default; a pty's is without
    termios.tcsetattr(fd, termios.TCSANOW, attributes)
    port, ear = SerialPort(str(cable.name), 115200), Ear()
    line = await port.open(ear.receive, ear.gone)
    assert not termios.tcgetattr(fd)[2] & termios.HUPCL
    os.close(fd)
    line.abort()


async def test_the_path_is_resolved_anew_at_every_open(cable: Cable) -> None:
    """A by-path name survives renumbering; reopening needs no restart."""
    port, ear = SerialPort(str(cable.name), 115200), Ear()
    lines = []

    async def converse() -> bool:
        gone = asyncio.Event()
        line = await port.open(ear.receive, lambda _why: gone.set())
        lines.append(line)
        await gone.wait()
        return True

    troubles: list[str] = []

    async def troubled(why: str) -> None:
        troubles.append(why)

    task = asyncio.create_task(reopen_for_ever(CLOCK, converse, troubled))
    await until(lambda: len(lines) == 1)
    before = cable.name.readlink()
    cable.unplug()
    await until(lambda: bool(troubles))
    keep, other = pty.openpty()  # takes the freed number, so that the name must change
    assert "is the cable in?" in troubles[0]
    cable.plug()
    async with asyncio.timeout(2.2):
        await until(lambda: len(lines) == 2)
    lines[1].write(b"hello")
    assert cable.read() == b"hello"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    lines[1].abort()
    os.close(keep)
    os.close(other)
    assert cable.name.readlink() != before


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOENT, "cable"),
        (errno.EACCES, "dialout"),
        (errno.EBUSY, "fuser"),
        (errno.EIO, "plugged"),
    ],
)
def test_an_error_names_path_cause_and_remedy(number: int, remedy: str) -> None:
    text = explain("/dev/ttyUSB0", OSError(number, "x"))
    assert text.startswith("/dev/ttyUSB0: ")
    assert os.strerror(number) in text
    assert remedy in text


async def test_what_is_no_serial_device_is_an_answer_not_a_crash(tmp_path: Path) -> None:
    plain = tmp_path / "file"
    plain.write_text("x")
    for path in (plain, tmp_path, tmp_path / "missing"):
        with pytest.raises(BoardOffline, match=str(path)):
            await SerialPort(str(path), 115200).open(lambda _d: None, lambda _w: None)


@pytest.mark.parametrize(
    "spec",
    [
        *("tcp://", "tcp://host", "tcp://host:x", "udp://h:1", "tcp://h:99999"),
        *("tcp://a..b:4001", f"tcp://{'x' * 64}:4001", "tcp://a\0b:4001"),  # no name can be so
    ],
)
def test_a_bad_url_is_a_config_error(spec: str) -> None:
    with pytest.raises(ConfigError, match="tcp://host:port"):
        real_port(spec, 115200, CLOCK)


async def test_tcp_has_nodelay_and_notices_the_end() -> None:
    accepted: list[asyncio.StreamWriter] = []

    async def served(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    number = server.sockets[0].getsockname()[1]
    port: Port = real_port(f"tcp://127.0.0.1:{number}", 115200, CLOCK)
    assert isinstance(port, TcpPort)
    ear = Ear()
    line = await port.open(ear.receive, ear.gone)
    sock = line._transport.get_extra_info("socket")  # type: ignore[attr-defined]
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    await until(lambda: len(accepted) == 1)
    accepted[0].write(b"hi")
    await until(lambda: ear.data == b"hi")
    accepted[0].close()
    await until(lambda: len(ear.lost) == 1)
    with pytest.raises(BoardOffline):
        line.write(b"x")
    server.close()
    await server.wait_closed()
    with pytest.raises(BoardOffline, match="does not listen"):
        await port.open(ear.receive, ear.gone)


async def test_p12_a_peer_that_floods_is_read_in_small_pieces() -> None:
    """256 KiB, what asyncio reads at once, would keep every other board waiting for a second."""

    async def served(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(300_000))

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    number = server.sockets[0].getsockname()[1]
    sizes: list[int] = []
    ear = Ear()
    port = real_port(f"tcp://127.0.0.1:{number}", 115200, CLOCK)
    line = await port.open(lambda data: sizes.append(len(data)), ear.gone)
    await until(lambda: sum(sizes) == 300_000)
    assert max(sizes) <= 4096
    assert port.traffic.bytes_in == 300_000
    line.abort()
    server.close()
    await server.wait_closed()


async def test_a_cancelled_open_leaves_nothing_open(cable: Cable) -> None:
    port, ear = SerialPort(str(cable.name), 115200), Ear()
    opening = asyncio.create_task(port.open(ear.receive, ear.gone))
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    await until(lambda: not _locked(cable.name), within_s=2)
