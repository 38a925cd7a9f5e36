"""A server of the network block device protocol, in front of a `Disk`.

After the protocol's own document (doc/proto.md of the NetworkBlockDevice project), which
names the constants below. One export, no name needed, fixed newstyle negotiation, simple
replies. Requests are answered one after the other, so that a flush covers every write
that was answered before it. `Server` runs in a thread of its own with its own loop.
"""

from __future__ import annotations

import asyncio
import random
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.powercut.disk import SECTOR, Cut, Disk

T = TypeVar("T")

MAGIC = b"NBDMAGICIHAVEOPT"
OPTION_MAGIC = 0x49484156454F5054
REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698

FIXED_NEWSTYLE, NO_ZEROES = 1, 2

OPT_EXPORT_NAME, OPT_ABORT, OPT_INFO, OPT_GO = 1, 2, 6, 7
REP_ACK, REP_INFO, REP_ERR_UNSUP = 1, 3, 0x80000001
INFO_EXPORT, INFO_BLOCK_SIZE = 0, 3

HAS_FLAGS, SEND_FLUSH, SEND_FUA = 1, 4, 8
EXPORT_FLAGS = HAS_FLAGS | SEND_FLUSH | SEND_FUA

CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH = 0, 1, 2, 3
FLAG_FUA = 1
EINVAL = 22

LONGEST = 32 * 1024 * 1024
"""Bytes of one request: the protocol's default maximum."""
LONGEST_OPTION = 64 * 1024


class Hangup(Exception):
    """The client breaks the protocol, or goes: its connection ends."""


@dataclass(frozen=True)
class Request:
    flags: int
    kind: int
    handle: bytes
    offset: int
    length: int


async def _negotiate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int) -> None:
    """Up to the transmission phase. Raises Hangup."""
    writer.write(MAGIC + struct.pack(">H", FIXED_NEWSTYLE | NO_ZEROES))
    (flags,) = struct.unpack(">I", await reader.readexactly(4))
    while True:
        magic, option, length = struct.unpack(">QII", await reader.readexactly(16))
        if magic != OPTION_MAGIC or length > LONGEST_OPTION:
            raise Hangup("not an option of the protocol")
        await reader.readexactly(length)
        if option == OPT_EXPORT_NAME:
            padding = b"" if flags & NO_ZEROES else bytes(124)
            writer.write(struct.pack(">QH", size, EXPORT_FLAGS) + padding)
            return
        if option in {OPT_INFO, OPT_GO}:
            export = struct.pack(">HQH", INFO_EXPORT, size, EXPORT_FLAGS)
            blocks = struct.pack(">HIII", INFO_BLOCK_SIZE, SECTOR, 4096, LONGEST)
            for kind, data in ((REP_INFO, export), (REP_INFO, blocks), (REP_ACK, b"")):
                writer.write(_option_reply(option, kind, data))
            if option == OPT_GO:
                return
            continue
        writer.write(_option_reply(option, REP_ACK if option == OPT_ABORT else REP_ERR_UNSUP))
        if option == OPT_ABORT:
            raise Hangup("the client asked for it")


def _option_reply(option: int, kind: int, data: bytes = b"") -> bytes:
    return struct.pack(">QIII", REPLY_MAGIC, option, kind, len(data)) + data


async def _request(reader: asyncio.StreamReader) -> Request:
    header = await reader.readexactly(28)
    magic, flags, kind, handle, offset, length = struct.unpack(">IHH8sQI", header)
    if magic != REQUEST_MAGIC or length > LONGEST:
        raise Hangup("not a request of the protocol")
    return Request(flags, kind, handle, offset, length)


class Server:
    """Listens on a Unix socket from `start` to `stop`.

    `flush_s`: seconds that a flush takes. Cards and flash drives need some milliseconds;
    with none, a cut would hardly ever find anything unflushed.
    """

    def __init__(self, path: Path, disk: Disk, *, flush_s: float = 0.0) -> None:
        self._path = path
        self._disk = disk
        self._flush_s = flush_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nbd", daemon=True)
        self._clients: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None
        self._power = asyncio.Event()
        self._power.set()

    def start(self) -> None:
        self._thread.start()
        self._do(self._listen())

    def stop(self) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def freeze(self) -> None:
        """From now on nothing reaches the disk, and nobody is answered, until `cut`. So
        that nothing is finished while its client is being killed."""
        self._do(self._freeze())

    def cut(self, chance: random.Random) -> Cut:
        """The power goes: each connection ends, a flush that runs does not, and the disk
        loses. It serves again at once, as a disk whose power is back."""
        return self._do(self._cut(chance))

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._hang_up()

    async def _freeze(self) -> None:
        self._power.clear()

    async def _cut(self, chance: random.Random) -> Cut:
        await self._hang_up()
        self._power.set()
        return self._disk.cut(chance)

    async def _hang_up(self) -> None:
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.current_task()
        assert client is not None
        self._clients.add(client)
        try:
            await _negotiate(reader, writer, self._disk.size)
            while (request := await _request(reader)).kind != CMD_DISC:
                await self._answer(request, reader, writer)
        except (Hangup, asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # cancelled only by us, at a cut or at the end
        finally:
            self._clients.discard(client)
            writer.close()

    async def _answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        data = await reader.readexactly(request.length) if request.kind == CMD_WRITE else b""
        error, answer = 0, b""
        if request.kind == CMD_FLUSH or request.flags & FLAG_FUA:
            await asyncio.sleep(self._flush_s)
        await self._power.wait()
        if request.kind == CMD_FLUSH:
            self._disk.flush()
        elif request.kind not in {CMD_READ, CMD_WRITE} or not self._disk.fits(
            request.offset, request.length
        ):
            error = EINVAL
        elif request.kind == CMD_READ:
            answer = self._disk.read(request.offset, request.length)
        else:
            self._disk.write(request.offset, data, fua=bool(request.flags & FLAG_FUA))
        writer.write(struct.pack(">II8s", SIMPLE_REPLY_MAGIC, error, request.handle) + answer)
        await writer.drain()
