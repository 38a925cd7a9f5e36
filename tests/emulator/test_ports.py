"""Where a cable ends: what is in a port's place, who else uses it, and an adapter that goes."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.boards.vbp import frames as vbp
from firmware_sim.control import ControlSocket
from firmware_sim.ports import PortError, PtyPort, SerialPort
from tests.emulator.hosts import make_board


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def until(what: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.01)


async def test_a_pty_takes_no_place_of_anything_but_a_link(tmp_path: Path) -> None:
    """`port = "pty:/dev/ttyUSB0"` is a mistake, and may not cost the device."""
    path = tmp_path / "kept"
    path.write_text("precious")
    port = PtyPort(path, make_board("vbp"))
    with pytest.raises(PortError, match=r"kept: .*no link"):
        await port.open()
    port.close()
    assert path.read_text() == "precious"
    assert names_in(tmp_path) == ["kept"]


async def test_closing_leaves_the_link_and_the_socket_of_a_successor(tmp_path: Path) -> None:
    link, control = tmp_path / "tty", tmp_path / "sock"
    board = make_board("vbp")
    old_port, new_port = PtyPort(link, board), PtyPort(link, board)
    await old_port.open()
    await new_port.open()
    old_port.close()
    assert link.exists()
    new_port.close()
    assert not link.is_symlink()

    old = ControlSocket(control, board)
    await old.open()
    control.unlink()
    new = ControlSocket(control, board)
    await new.open()
    old.close()
    reader, writer = await asyncio.open_unix_connection(control)
    writer.write(b'{"ask": "faults"}\n')
    assert b"jam" in await reader.readline()
    writer.close()
    new.close()
    assert not control.exists()


async def test_a_control_socket_that_answers_is_not_taken_over(tmp_path: Path) -> None:
    board = make_board("vbp")
    first = ControlSocket(tmp_path / "sock", board)
    await first.open()
    with pytest.raises(OSError, match="sock: another emulator answers there"):
        await ControlSocket(tmp_path / "sock", board).open()
    reader, writer = await asyncio.open_unix_connection(tmp_path / "sock")
    writer.write(b'{"ask": "faults"}\n')
    assert b"jam" in await reader.readline()
    writer.close()
    first.close()


@pytest.mark.parametrize("name", ["none/sock", "s" * 120])
async def test_a_control_socket_that_cannot_be_made_names_its_path(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(OSError, match=name):
        await ControlSocket(tmp_path / name, make_board("vbp")).open()


class Adapter:
    """A device under a lasting name, as udev's links are, and our end of its cable."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.end = -1

    def plug(self) -> None:
        self.end, device = os.openpty()
        tty.setraw(device)
        os.set_blocking(self.end, False)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(os.ttyname(device))
        os.close(device)

    def unplug(self) -> None:
        os.close(self.end)

    async def hello(self) -> vbp.HelloAnswer:
        decoder = vbp.Decoder()
        os.write(self.end, vbp.encode(vbp.Hello(), 1))
        answers: list[vbp.Frame] = []

        def answered() -> bool:
            try:
                answers.extend(decoder.feed(os.read(self.end, 4096)))
            except BlockingIOError:
                return False
            return bool(answers)

        await until(answered)
        answer = vbp.parse(answers[0])
        assert isinstance(answer, vbp.HelloAnswer)
        return answer


async def test_a_serial_adapter_that_goes_is_opened_again_when_it_is_back(tmp_path: Path) -> None:
    """A real line: the board behind it goes on, and is heard again without a restart."""
    board = make_board("vbp")
    adapter = Adapter(tmp_path / "ttyUSB0")
    adapter.plug()
    port = SerialPort(str(adapter.link), 115_200, board)
    await port.open()
    before = await adapter.hello()
    adapter.unplug()
    await until(lambda: board.ledger.count("unplugged") == 1)
    adapter.plug()
    await until(lambda: board.ledger.count("plugged") == 1)
    assert (await adapter.hello()).boot_id == before.boot_id
    port.close()
    adapter.unplug()


async def test_a_serial_line_without_data_is_not_taken_for_a_lost_one(tmp_path: Path) -> None:
    """VMIN = 0: a read after a spurious wake-up is empty, and nothing is wrong."""
    board = make_board("vbp")
    adapter = Adapter(tmp_path / "ttyUSB0")
    adapter.plug()
    port = SerialPort(str(adapter.link), 115_200, board)
    await port.open()
    port._readable()
    assert (await adapter.hello()).lanes == 1
    assert board.ledger.count("unplugged") == 0
    port.close()
    adapter.unplug()
