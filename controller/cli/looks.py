"""The look before an act: what an acting verb says that it will do must be possible.

A look costs a request. The daemon judges again, by what it knows when it acts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.cli.client import path
from controller.cli.exits import Exit, Trouble
from controller.cli.verbs import Session
from controller.cli.words import joined, say


def lane_now(session: Session, channel: str) -> Mapping[str, Any]:
    """Raises Trouble: there is no such lane, which is a refusal to who wants to act on it."""
    try:
        found: Mapping[str, Any] = session.daemon.read(path("lanes", channel))["lane"]
    except Trouble as trouble:
        if trouble.exit_code is Exit.BAD_NEWS:  # bad news to read
            raise Trouble(Exit.REFUSED, trouble.code, str(trouble)) from trouble
        raise
    return found


def cabinet_now(status: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Raises Trouble: there is no such cabinet."""
    cabinets: Mapping[str, Any] = status.get("cabinets") or {}
    if name not in cabinets:
        message = say(
            "There is no cabinet {name}; there is {names}", name=name, names=_names(cabinets)
        )
        raise Trouble(Exit.REFUSED, "unknown_cabinet", message)
    found: Mapping[str, Any] = cabinets[name]
    return found


def board_to_accept(status: Mapping[str, Any], name: str) -> None:
    """Raises Trouble: there is no such board, or nobody waits for a word about it."""
    boards: Mapping[str, Any] = status.get("boards") or {}
    if name not in boards:
        message = say("There is no board {name}; there is {names}", name=name, names=_names(boards))
        raise Trouble(Exit.REFUSED, "unknown_board", message)
    if not boards[name].get("out_of_service"):
        message = say("Board {name} is in service as it is: there is nothing to accept", name=name)
        raise Trouble(Exit.REFUSED, "nothing_to_accept", message)


def _names(parts: Mapping[str, Any]) -> str:
    return joined(list(parts)) or "-"
