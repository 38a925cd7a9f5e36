"""`vendctl journal check`, `backup FILE`, `prune`: the journal's upkeep by its daemon."""

from __future__ import annotations

import argparse
import base64
import binascii
import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from controller.cli import journal_restore, screen
from controller.cli.exits import Exit, Trouble
from controller.cli.meanings import refusal
from controller.cli.verbs import Line, Session, Verb, confirm
from controller.cli.words import say

MB = 1_000_000


def run_check(session: Session, _args: argparse.Namespace) -> Exit:
    confirm(
        session,
        say(
            "This looks through the whole journal while the machine sells. Should it find "
            "damage, the daemon stops, sets the journal aside and begins a new one; its "
            "cabinets then wait for a count."
        ),
    )
    table = ""
    for step in _steps(session, "/v1/journal/check"):
        if session.json:
            screen.as_json_line(step)
        if step["event"] == "damaged":
            if not session.json:
                screen.data(say("DAMAGED: {why}", why=screen.clean(step.get("message"))))
            return Exit.BAD_NEWS
        if step["event"] == "checked" and step.get("table") != table and not session.json:
            table = str(step.get("table"))
            screen.words(
                say(
                    "{number} of {tables}: {table}",
                    number=step.get("table_no", "?"),
                    tables=step.get("tables", "?"),
                    table=screen.clean(table),
                )
            )
    if not session.json:
        screen.data(say("The journal is whole."))
    return Exit.FINE


def run_backup(session: Session, args: argparse.Namespace) -> Exit:
    file = Path(args.file).absolute()
    if file.exists():
        raise _exists(file)
    confirm(
        session,
        say(
            "This writes a copy of the journal into {file}, with your rights and for your eyes "
            "only: it holds every order. The machine goes on meanwhile.",
            file=args.file,
        ),
    )
    handle = _new_file(file)
    try:
        with os.fdopen(handle, "wb") as target:
            end = _received(session, target)
            target.flush()
            os.fsync(target.fileno())
        _sync(file.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            file.unlink()
        if isinstance(error, OSError):
            raise _not_written(file, error) from error
        raise
    told = {"file": str(file), **{name: end.get(name) for name in ("bytes", "sha256", "birth")}}
    if session.json:
        screen.as_json(told)
        return Exit.FINE
    screen.data(str(file))
    size = f"{(end.get('bytes') or 0) / MB:.1f} MB"
    for line in screen.pairs(
        [("size", size), ("birth", end.get("birth")), ("sha256", end.get("sha256"))]
    ):
        screen.data(line)
    return Exit.FINE


def run_prune(session: Session, _args: argparse.Namespace) -> Exit:
    would = session.daemon.read("/v1/journal/prune")
    rows: Mapping[str, int] = would.get("rows") or {}
    if not any(rows.values()):
        if session.json:
            screen.as_json_line({"event": "finished", "gone": {}})
        screen.words(
            say("Nothing is older than {days:g} days.", days=would.get("retention_days", 0))
        )
        return Exit.FINE
    for line in _table(rows):
        screen.words(line)
    confirm(
        session,
        say(
            "This removes these details, at most, as the retention of {days:g} days would in "
            "the next hour. The identity of each order stays for ever.",
            days=would.get("retention_days", 0),
        ),
    )
    gone: Mapping[str, int] = {}
    for step in _steps(session, "/v1/journal/prune"):
        if session.json:
            screen.as_json_line(step)
        gone = step.get("gone") or gone
    if not session.json:
        for line in _table(gone):
            screen.data(line)
    return Exit.FINE


def _table(rows: Mapping[str, int]) -> list[str]:
    return screen.table(("KIND", "ROWS"), [(kind, count) for kind, count in rows.items() if count])


def _steps(session: Session, where: str) -> Iterator[Mapping[str, Any]]:
    """The steps of a stream to its end. Raises Trouble where it is cut off or refused."""
    for step in session.daemon.stream(where):
        if step.get("event") == "refused":
            code = str(step.get("error"))
            raise Trouble(Exit.REFUSED, code, refusal(code, step))
        yield step
        if step.get("event") in {"finished", "damaged"}:
            return
    raise Trouble(
        Exit.UNREACHABLE,
        "connection_lost",
        say("The daemon stopped before it was done: systemctl status vending-controller"),
    )


def _received(session: Session, target: Any) -> Mapping[str, Any]:
    """The copy's bytes into `target`; the last step. Raises Trouble unless all came whole."""
    digest, told = hashlib.sha256(), 0
    end: Mapping[str, Any] = {}
    for step in _steps(session, "/v1/journal/backup"):
        if step.get("event") == "chunk":
            try:
                chunk = base64.b64decode(str(step.get("data")), validate=True)
            except binascii.Error:
                break
            target.write(chunk)
            digest.update(chunk)
            share = 100 * int(step.get("sent", 0)) // max(1, int(step.get("of", 0)))
            if share // 25 > told:
                told = share // 25
                screen.words(f"{share} %")
        end = step
    if end.get("sha256") != digest.hexdigest():
        message = say("What arrived is not what was sent; it was removed. Try again")
        raise Trouble(Exit.BAD_NEWS, "torn_copy", message)
    return end


def _new_file(file: Path) -> int:
    try:
        return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise _exists(file) from None
    except OSError as error:
        raise _not_written(file, error) from error


def _exists(file: Path) -> Trouble:
    message = say("{file} exists, and is not overwritten: choose another name", file=file)
    return Trouble(Exit.REFUSED, "exists", message)


def _not_written(file: Path, error: OSError) -> Trouble:
    message = say(
        "{file} cannot be written ({why}). vendctl writes it with your own rights: choose a "
        "directory of yours with room in it",
        file=file,
        why=error.strerror or error,
    )
    return Trouble(Exit.REFUSED, "not_written", message)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")


VERBS = (
    Verb(
        "journal check",
        (Line("journal check", "is the whole file sound?", "vendctl journal check"),),
        run_check,
        note="Exit code 1 when it is damaged. Ctrl-C ends the check.",
    ),
    Verb(
        "journal backup",
        (
            Line(
                "journal backup FILE",
                "a copy, while the daemon runs",
                "vendctl journal backup /media/usb/journal.db",
            ),
        ),
        run_backup,
        _file,
        note="The daemon makes the copy, vendctl writes the file with your rights. An existing\n"
        "file is never overwritten.",
    ),
    *journal_restore.VERBS,
    Verb(
        "journal prune",
        (Line("journal prune", "do now what retention would", "vendctl journal prune"),),
        run_prune,
        note="Says first what would be removed. What tells a repeated order stays for ever.",
    ),
)
