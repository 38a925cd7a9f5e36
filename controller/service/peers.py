"""Who is at the other end of the socket, and what they may do.

The kernel says it (unix(7)): SO_PEERCRED has the user and the group of the process
that connected, SO_PEERGROUPS its further groups, both as at the connect. Nothing
that the peer sends counts.
"""

from __future__ import annotations

import os
import pwd
import socket
import struct
from dataclasses import dataclass
from enum import StrEnum

from controller.errors import Refused

SO_PEERGROUPS = 59
"""asm-generic/socket.h; amd64 and arm64 have it so. The standard library does not name it."""

UCRED = struct.Struct("iII")
"""struct ucred: pid, uid, gid."""

GROUPS_BYTES = 1024
"""The most that the standard library's getsockopt takes: 256 groups."""

ROOT = 0


class Right(StrEnum):
    READ = "read"
    ACT = "act"


@dataclass(frozen=True, slots=True)
class Peer:
    uid: int
    gids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may come in. A group that the system does not have admits nobody."""

    own_uid: int
    read_group: str
    read_gid: int | None
    act_group: str
    act_gid: int | None

    def allows(self, peer: Peer, right: Right) -> bool:
        if peer.uid in (ROOT, self.own_uid):
            return True
        open_to = {self.act_gid} if right is Right.ACT else {self.act_gid, self.read_gid}
        return bool(peer.gids & (open_to - {None}))

    def refusal(self, peer: Peer, right: Right) -> Refused:
        """For a peer that may not: what is missing, and the remedy."""
        who = name_of(peer.uid)
        if right is Right.ACT:
            return Refused(
                "forbidden",
                "{user} may not act here: only root and the group {group} may. "
                "Remedy: usermod -aG {group} {user}, then log in again",
                user=who,
                group=self.act_group,
            )
        return Refused(
            "forbidden",
            "{user} may not read here: only root and the group {group} may. "
            "Remedy: usermod -aG {group} {user}, then log in again",
            user=who,
            group=self.read_group,
        )


def peer_of(sock: socket.socket) -> Peer:
    """Raises OSError when the kernel does not say."""
    _pid, uid, gid = UCRED.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
    )
    return Peer(uid, frozenset({gid, *_further_groups(sock)}))


def _further_groups(sock: socket.socket) -> tuple[int, ...]:
    """None at all for a peer of more than 256 groups (ERANGE): it may then less, never more."""
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, GROUPS_BYTES)
    except OSError:
        return ()
    return struct.unpack(f"{len(raw) // 4}I", raw[: len(raw) // 4 * 4])


def name_of(uid: int) -> str:
    """The user's name for the journal; `uid 1234` where the system knows none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def own_uid() -> int:
    return os.getuid()
