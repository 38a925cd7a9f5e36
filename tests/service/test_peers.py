"""Who may read and who may act is the kernel's word about the peer."""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import socket
import stat
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from controller.config_tables import ServiceTable
from controller.service import socket_file
from controller.service.peers import Admission, Peer, Right, name_of, peer_of
from controller.service.server import Service, start_service
from controller.service.socket_file import SocketUnusable
from tests.service.conftest import ACT_GROUP, READ_GROUP
from tests.service.memory_machine import MemoryMachine
from tests.service.raw_http import get, split

NOBODY = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="becoming another user takes root")

OTHER_USER = """
import os, socket, sys
path, uid, groups, request = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
os.setgroups([int(g) for g in groups.split(",") if g])
os.setgid(65534)
os.setuid(uid)
with socket.socket(socket.AF_UNIX) as s:
    s.settimeout(10)
    try:
        s.connect(path)
    except PermissionError:
        sys.exit("not even connected")
    s.sendall(request.encode())
    answer = b""
    while part := s.recv(65536):
        answer += part
sys.stdout.buffer.write(answer)
"""


def gid(name: str) -> int:
    return grp.getgrnam(name).gr_gid


async def ask_as(path: Path, groups: list[str], method: str, target: str) -> tuple[int, bytes]:
    """What a process of nobody with these further groups is answered."""
    request = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        OTHER_USER,
        str(path),
        str(NOBODY),
        ",".join(str(gid(name)) for name in groups),
        request,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(child.communicate(), 15)
    if b"not even connected" in err:
        return -1, b""
    assert child.returncode == 0, err
    return split(out)


RIGHTS = [
    # mode, groups, may connect and read, may act
    (0o660, [], -1, -1),
    (0o666, [], 403, 403),
    (0o660, [READ_GROUP], 200, 403),
    (0o666, [ACT_GROUP], 200, 200),
    (0o660, [READ_GROUP, ACT_GROUP], 200, 200),
]


@as_root
@pytest.mark.system
@pytest.mark.parametrize(("mode", "groups", "reads", "acts"), RIGHTS)
async def test_groups_decide(
    service: Service,
    machine: MemoryMachine,
    socket_path: Path,
    mode: int,
    groups: list[str],
    reads: int,
    acts: int,
) -> None:
    os.chmod(socket_path, mode)  # noqa: PTH101 - what the kernel is told at once
    status, _ = await ask_as(socket_path, groups, "GET", "/v1/status")
    assert status == reads
    status, answer = await ask_as(socket_path, groups, "POST", "/v1/lanes/A1/enable")
    assert status == acts
    if acts == 200:
        assert machine.acts == [("lane_enable", "A1", "", name_of(NOBODY))]
    else:
        assert machine.acts == []
    if acts == 403:
        assert ACT_GROUP.encode() in answer, "the refusal names the group that is missing"


def test_the_own_user_and_root_may_all_and_a_missing_group_admits_nobody() -> None:
    admission = Admission(own_uid=500, read_group="r", read_gid=None, act_group="a", act_gid=None)
    for uid in (0, 500):
        assert admission.allows(Peer(uid, frozenset()), Right.ACT)
    stranger = Peer(501, frozenset({0, 7}))
    assert not admission.allows(stranger, Right.READ)
    assert not admission.allows(stranger, Right.ACT)


def test_the_kernel_names_uid_and_groups() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = peer_of(ours)
    assert peer.uid == os.getuid()
    assert peer.gids == {os.getgid(), *os.getgroups()}


def test_a_user_without_a_name_is_a_number() -> None:
    assert name_of(4_000_000_000 - 1) == "uid 3999999999"


@as_root
async def test_the_socket_belongs_to_the_read_group_only(
    service: Service, socket_path: Path
) -> None:
    found = os.stat(socket_path)  # noqa: PTH116
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert found.st_gid == gid(READ_GROUP)


async def test_missing_groups_are_warned_of_with_the_remedy(
    machine: MemoryMachine, socket_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        running = await start_service(
            machine, socket=socket_path, read_group="nosuch1", act_group="nosuch2"
        )
    try:
        missing = [entry.fields for entry in caplog.records if entry.message == "group_missing"]
        assert [fields["group"] for fields in missing] == ["nosuch1", "nosuch2"]
        assert "groupadd" in missing[0]["remedy"]
        assert (await get(socket_path, "/v1/status"))[0] == 200, "root and the own user come in"
    finally:
        await running.close()


# --------------------------------------------------------------------------- the path


async def start(machine: MemoryMachine, path: Path) -> Service:
    return await start_service(machine, socket=path, read_group=READ_GROUP, act_group=ACT_GROUP)


async def test_a_stale_socket_is_replaced(machine: MemoryMachine, socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_path))
    running = await start(machine, socket_path)
    assert (await get(socket_path, "/v1/status"))[0] == 200
    await running.close()
    assert list(socket_path.parent.iterdir()) == [], "nothing is left behind"


async def test_a_live_daemons_socket_is_refused(
    service: Service, machine: MemoryMachine, socket_path: Path
) -> None:
    with pytest.raises(SocketUnusable, match="another daemon answers"):
        await start(machine, socket_path)
    assert (await get(socket_path, "/v1/status"))[0] == 200


def test_a_file_that_is_no_socket_is_left_alone(machine: MemoryMachine, socket_path: Path) -> None:
    socket_path.write_text("somebody's notes")
    with pytest.raises(SocketUnusable, match="is no socket"):
        asyncio.run(start(machine, socket_path))
    assert socket_path.read_text() == "somebody's notes"


@pytest.mark.parametrize(
    ("path", "said"),
    [("missing/control.sock", "is missing: create it"), ("x" * 120, "too long")],
)
async def test_an_impossible_path_is_explained(
    machine: MemoryMachine, open_dir: Path, path: str, said: str
) -> None:
    with pytest.raises(SocketUnusable, match=said):
        await start(machine, open_dir / path)


async def test_the_path_of_a_successor_is_not_taken_away(
    machine: MemoryMachine, socket_path: Path
) -> None:
    first = await start(machine, socket_path)
    os.unlink(socket_path)  # noqa: PTH108
    second = await start(machine, socket_path)
    await first.close()
    assert (await get(socket_path, "/v1/status"))[0] == 200
    await second.close()


@pytest.mark.parametrize("name", ["control.sock", "s"])
def test_what_the_settings_take_as_a_socket_can_be_listened_on(tmp_path: Path, name: str) -> None:
    """The longest path that `--check` finds right, and the one that it no longer does."""

    def taken(length: int) -> Path | None:
        directory = tmp_path / ("d" * (length - len(f"{tmp_path}//{name}")))
        try:
            return ServiceTable.model_validate({"socket": str(directory / name)}).socket
        except ValidationError:
            return None

    longest = max(length for length in range(len(f"{tmp_path}//{name}") + 1, 120) if taken(length))
    assert longest >= 98
    path = taken(longest)
    assert path is not None
    path.parent.mkdir()
    socket_file.listen(path, None).close()
    assert path.is_socket()
