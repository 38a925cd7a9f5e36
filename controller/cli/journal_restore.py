"""`vendctl journal restore FILE`: offline, under the journal's own lock."""

from __future__ import annotations

import argparse
import getpass
import os
import time
from pathlib import Path

from controller.cli import screen
from controller.cli.exits import Exit, Trouble
from controller.cli.meanings import meant
from controller.cli.settings import DEFAULT_FILE
from controller.cli.verbs import Line, Session, Verb, confirm
from controller.cli.words import say
from controller.errors import JournalError, StateDirInUse


def run(session: Session, args: argparse.Namespace) -> Exit:
    from controller.config import state_dir  # late: pydantic and SQLite cost more than the rest
    from controller.journal.restoring import hold

    folder = state_dir(Path(getattr(args, "config", None) or DEFAULT_FILE))
    try:
        with hold(folder, Path(args.file)) as restoring:
            backup = restoring.backup
            screen.words(
                say(
                    "{file}: {orders} orders, the newest word of {newest}, birth {birth}",
                    file=args.file,
                    orders=backup.orders,
                    newest=screen.at(backup.newest_time or None),
                    birth=backup.birth,
                )
            )
            confirm(
                session,
                say(
                    "This puts it in place of the journal in {folder}; the present one is set "
                    "aside. What was given out after the backup is forgotten: orders from before "
                    "the next start are refused, and every cabinet waits for a count. Put one "
                    "back only when the present journal is lost.",
                    folder=folder,
                ),
            )
            done = restoring.put_in_place(_who(), time.time())
    except StateDirInUse as trouble:
        raise Trouble(Exit.REFUSED, "daemon_runs", meant(str(trouble))) from trouble
    except JournalError as trouble:
        raise Trouble(Exit.REFUSED, "not_restored", meant(str(trouble))) from trouble
    aside = None if done.set_aside is None else str(done.set_aside)
    if session.json:
        told = {"journal": str(folder / "journal.db"), "set_aside": aside, "birth": backup.birth}
        screen.as_json({**told, "orders": backup.orders, "bytes": backup.bytes})
        return Exit.FINE
    screen.data(say("restored: {path}", path=folder / "journal.db"))
    if aside is not None:
        screen.data(say("set aside: {path}", path=aside))
    screen.words(
        say(
            "Start the daemon (systemctl start vending-controller), count the lanes (stock set or "
            "stock fill), then cabinet start."
        )
    )
    return Exit.FINE


def _who() -> str:
    """The person behind sudo, where there is one."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")


VERBS = (
    Verb(
        "journal restore",
        (
            Line(
                "journal restore FILE",
                "put a backup back (daemon stopped)",
                "sudo vendctl journal restore /media/usb/journal.db",
            ),
        ),
        run,
        _arguments,
        note="The daemon must be stopped. The file is checked first, the present journal is set\n"
        "aside and never deleted, and cabinets wait for a count.",
        asks_daemon=False,
    ),
)
