"""The server of the power cuts: what was flushed stays, and what was not really goes."""

from __future__ import annotations

import random
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.powercut import nbd
from tests.powercut.disk import SECTOR, Disk

SIZE = 64 * SECTOR
OLD = b"o"
NEW = b"n"


class Client:
    """As QEMU speaks to it, one request at a time."""

    def __init__(self, path: Path) -> None:
        self._line = socket.socket(socket.AF_UNIX)
        self._line.settimeout(5)
        self._line.connect(str(path))
        assert self._read(18) == b"NBDMAGICIHAVEOPT\0\3"
        self._line.sendall(struct.pack(">I", 3))

    def close(self) -> None:
        self._line.close()

    def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = self._line.recv(length - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def option(self, number: int, data: bytes = b"") -> tuple[int, bytes]:
        self._line.sendall(b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data)
        return self.option_reply()

    def option_reply(self) -> tuple[int, bytes]:
        magic, _option, kind, length = struct.unpack(">QIII", self._read(20))
        assert magic == 0x3E889045565A9
        return kind, self._read(length)

    def go(self) -> tuple[int, int]:
        """Into the transmission phase: the size and the flags of the disk."""
        kind, export = self.option(nbd.OPT_GO, struct.pack(">IH", 0, 0))
        assert kind == nbd.REP_INFO
        while kind != nbd.REP_ACK:
            kind, _ = self.option_reply()
        _, size, flags = struct.unpack(">HQH", export)
        return size, flags

    def ask(self, kind: int, offset: int = 0, length: int = 0, flags: int = 0) -> None:
        header = (nbd.REQUEST_MAGIC, flags, kind, b"12345678", offset, length)
        self._line.sendall(struct.pack(">IHH8sQI", *header))

    def answer(self, length: int = 0) -> tuple[int, bytes]:
        magic, error, handle = struct.unpack(">II8s", self._read(16))
        assert (magic, handle) == (nbd.SIMPLE_REPLY_MAGIC, b"12345678")
        return error, b"" if error else self._read(length)

    def write(self, offset: int, data: bytes, flags: int = 0) -> int:
        self.ask(nbd.CMD_WRITE, offset, len(data), flags)
        self._line.sendall(data)
        return self.answer()[0]

    def read(self, offset: int, length: int) -> bytes:
        self.ask(nbd.CMD_READ, offset, length)
        return self.answer(length)[1]

    def flush(self) -> None:
        self.ask(nbd.CMD_FLUSH)
        assert self.answer()[0] == 0


Serve = Callable[..., nbd.Server]


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vc-") as directory:
        yield Path(directory) / "nbd"


@pytest.fixture
def serve(path: Path) -> Iterator[Serve]:
    servers = []

    def start(*, lies: bool = False, flush_s: float = 0.0) -> nbd.Server:
        server = nbd.Server(path, Disk(SIZE, lies=lies), flush_s=flush_s)
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


def connected(path: Path) -> Client:
    client = Client(path)
    client.go()
    return client


def survivors(path: Path, sectors: int) -> str:
    """The first byte of each sector, as a client finds it after a cut."""
    client = connected(path)
    content = client.read(0, sectors * SECTOR)
    client.close()
    found = [content[at : at + SECTOR] for at in range(0, len(content), SECTOR)]
    assert all(len(set(sector)) == 1 for sector in found), "no sector is half old, half new"
    return "".join(chr(sector[0]) for sector in found)


def test_it_says_what_a_disk_with_a_cache_says(serve: Serve, path: Path) -> None:
    serve()
    client = Client(path)
    assert client.option(8)[0] == nbd.REP_ERR_UNSUP  # structured replies: not here
    assert client.go() == (SIZE, nbd.HAS_FLAGS | nbd.SEND_FLUSH | nbd.SEND_FUA)
    assert client.read(0, SIZE) == bytes(SIZE)
    assert client.write(SECTOR, NEW * SECTOR) == 0
    assert client.read(0, 3 * SECTOR) == bytes(SECTOR) + NEW * SECTOR + bytes(SECTOR)
    client.close()


@pytest.mark.parametrize("offset", [1, SIZE, SIZE - SECTOR, 2**63])
def test_what_is_no_place_on_it_is_refused(serve: Serve, path: Path, offset: int) -> None:
    serve()
    client = connected(path)
    assert client.write(offset, NEW * 2 * SECTOR) == nbd.EINVAL
    assert client.read(0, SIZE) == bytes(SIZE)
    client.close()


def test_nonsense_ends_the_connection_and_no_other(serve: Serve, path: Path) -> None:
    serve()
    fine, broken = connected(path), connected(path)
    broken._line.sendall(bytes(28))
    with pytest.raises((EOFError, ConnectionError)):
        broken.answer()
    assert fine.write(0, NEW * SECTOR) == 0
    fine.close()


@pytest.mark.parametrize("seed", range(20))
def test_what_was_flushed_stays(serve: Serve, path: Path, seed: int) -> None:
    server = serve()
    client = connected(path)
    client.write(0, OLD * SECTOR * 4)
    client.write(SECTOR, NEW * SECTOR)
    client.flush()
    assert server.cut(random.Random(seed)).unflushed == 0
    assert survivors(path, 4) == "onoo"


def test_what_was_not_flushed_is_kept_lost_or_torn_by_sectors(serve: Serve, path: Path) -> None:
    server = serve()
    seen = set()
    for seed in range(60):
        client = connected(path)
        client.write(0, OLD * SECTOR * 8)
        client.flush()
        client.write(0, NEW * SECTOR * 8)
        cut = server.cut(random.Random(seed))
        found = survivors(path, 8)
        assert (cut.unflushed, cut.writes) == (8 * SECTOR, 1)
        assert cut.dropped == found.count("o") * SECTOR
        assert cut.torn == (0 < found.count("o") < 8)
        seen.add("torn" if cut.torn else found)
    assert seen == {"oooooooo", "nnnnnnnn", "torn"}


def test_later_writes_may_live_where_earlier_ones_died(serve: Serve, path: Path) -> None:
    server = serve()
    seen = set()
    for seed in range(60):
        client = connected(path)
        client.write(0, OLD * SECTOR * 2)
        client.flush()
        client.write(0, NEW * SECTOR)
        client.write(SECTOR, NEW * SECTOR)
        server.cut(random.Random(seed))
        seen.add(survivors(path, 2))
    assert seen == {"oo", "on", "no", "nn"}


@pytest.mark.parametrize("seed", range(20))
def test_fua_is_durable_alone_and_an_older_write_never_comes_back_over_it(
    serve: Serve, path: Path, seed: int
) -> None:
    server = serve()
    client = connected(path)
    client.write(0, OLD * SECTOR * 2)
    client.write(0, NEW * SECTOR, nbd.FLAG_FUA)
    server.cut(random.Random(seed))
    assert survivors(path, 1) == "n"


def test_a_flush_that_the_cut_interrupts_promises_nothing(serve: Serve, path: Path) -> None:
    server = serve(flush_s=30)
    seen = set()
    for seed in range(20):
        server.cut(random.Random(seed))
        client = connected(path)
        client.write(0, (OLD if seed % 2 else NEW) * SECTOR)
        before = survivors(path, 1)
        client.ask(nbd.CMD_FLUSH)
        server.freeze()
        server.cut(random.Random(seed))
        with pytest.raises((EOFError, ConnectionError)):
            client.answer()
        seen.add(survivors(path, 1) == before)
    assert seen == {True, False}


def test_frozen_it_does_nothing_more(serve: Serve, path: Path) -> None:
    server = serve()
    client = connected(path)
    server.freeze()
    client._line.settimeout(0.1)
    client.ask(nbd.CMD_FLUSH)
    with pytest.raises(TimeoutError):
        client.answer()
    server.cut(random.Random(1))
    assert survivors(path, 1) == "\0"


def test_a_disk_that_lies_loses_what_it_said_was_flushed(serve: Serve, path: Path) -> None:
    server = serve(lies=True)
    lost = 0
    for seed in range(20):
        client = connected(path)
        client.write(0, bytes([seed + 1]) * SECTOR, nbd.FLAG_FUA)
        client.flush()
        server.cut(random.Random(seed))
        lost += survivors(path, 1) != chr(seed + 1)
    assert lost > 3


Step = tuple[str, int, int]


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["write", "write", "fua", "flush", "cut"]),
            st.integers(0, 7),
            st.integers(1, 4),
        ),
        max_size=40,
    ),
    seed=st.integers(0, 2**16),
)
def test_each_sector_is_one_of_the_versions_that_it_may_be(steps: list[Step], seed: int) -> None:
    disk = Disk(12 * SECTOR)
    chance = random.Random(seed)
    allowed: list[list[bytes]] = [[bytes(SECTOR)] for _ in range(12)]
    for number, (what, first, length) in enumerate(steps, start=1):
        data = bytes([number]) * SECTOR
        for sector in range(first, first + length):
            if what == "fua":
                allowed[sector] = [data]
            elif what == "write":
                allowed[sector].append(data)
        if what in {"write", "fua"}:
            disk.write(first * SECTOR, data * length, fua=what == "fua")
        elif what == "flush":
            disk.flush()
            allowed = [[versions[-1]] for versions in allowed]
        else:
            disk.cut(chance)
            assert not disk.unflushed
        for sector, versions in enumerate(allowed):
            found = disk.read(sector * SECTOR, SECTOR)
            if what == "cut":
                assert found in versions
                allowed[sector] = [found]
            else:
                assert found == versions[-1]
