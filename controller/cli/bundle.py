"""`vendctl doctor --bundle FILE`: one archive for support, with a list of what is in it.

Everything passes `secrets_out` on its way in. Nothing is overwritten, nobody but
its maker may read it, and its size is bounded.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller import __version__
from controller.cli import screen
from controller.cli.checks_facts import UNIT, Facts
from controller.cli.client import Daemon, path
from controller.cli.exits import Exit, Trouble
from controller.cli.secrets_out import Sieve, sieve_for
from controller.cli.verbs import Session
from controller.cli.words import later, say

MEMBER_BYTES = 4 << 20
TOTAL_BYTES = 24 << 20
"""Unpacked; packed it is a tenth, which a mail takes."""

ORDERS_DETAILED = 20
EVENTS = 500
ORDERS = 100
JOURNAL_ROWS = 200
TRACE_S = 300
TRACE_LINES = 20_000
LOG_LINES = 5_000
LOG_S = 20.0

NO_ENTRIES = "-- No entries --"
NOT_SHOWN = ("insufficient permissions", "not seeing messages from other users")
"""What journalctl says beside the nothing that it shows."""

NEVER_INSIDE = later(
    "Never inside: passwords, keys, user names (people are user-1, user-2 …; root stays "
    "root), the database itself, payloads of messages."
)


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    what: str
    get: Callable[[], Any]
    """Its content: text, or what JSON can hold. Raises Trouble where it cannot be had."""


def run(
    session: Session,
    facts: Facts,
    target: Path,
    checks: Mapping[str, Any],
    page: Sequence[str],
) -> Exit:
    wanted, missing = _asked(parts(session.daemon, facts, checks, page))
    sieve = sieve_for(str(facts.config.get("file", "")), (content for _, content in wanted))
    members, missing = _sifted(wanted, missing, sieve)
    manifest = sieve.text(manifest_of(members, missing, facts.now).decode()).encode()
    size = _write(target, _folder(facts), {"MANIFEST.txt": manifest, **_bytes(members)})
    if session.json:
        listed = [{"name": part.name, "bytes": len(b), "what": part.what} for part, b in members]
        gaps = [{"name": part.name, "why": why} for part, why in missing]
        screen.as_json({"file": str(target), "bytes": size, "members": listed, "missing": gaps})
        return Exit.FINE
    for line in manifest.decode().splitlines():
        screen.data(line)
    screen.words(
        say("Written: {file}, {kib} KiB. Only you may read it.", file=target, kib=-(-size // 1024))
    )
    return Exit.FINE


def parts(
    daemon: Daemon, facts: Facts, checks: Mapping[str, Any], page: Sequence[str]
) -> tuple[Part, ...]:
    """In the order in which they are wanted, should there be no room for all."""

    def ask(where: str, **query: object) -> Callable[[], Any]:
        return lambda: daemon.read(where, **query)

    return (
        Part("doctor.txt", later("the doctor's page"), lambda: "\n".join(page) + "\n"),
        Part("doctor.json", later("its findings with their facts"), lambda: checks),
        Part("versions.json", later("programs, libraries, system"), lambda: _versions(facts)),
        Part("settings.json", later("settings without secrets"), lambda: _settings(facts)),
        Part("status.json", later("status"), ask("/v1/status")),
        Part("checkup.json", later("what only the daemon knows"), ask("/v1/doctor")),
        Part("lanes.json", later("lanes: stock and health"), ask("/v1/lanes")),
        Part("link.json", later("serial lines, counted"), ask("/v1/link")),
        Part("outbox.json", later("what waits for the broker"), lambda: _outbox(facts)),
        Part("events.json", later("newest events"), ask("/v1/events", limit=EVENTS)),
        Part("orders.json", later("newest orders"), ask("/v1/orders", limit=ORDERS)),
        Part("order-details.json", later("the newest of them in full"), lambda: _details(daemon)),
        Part("trace.jsonl", later("last frames"), lambda: _trace(daemon)),
        Part("log.txt", later("the daemon's log of the last hour"), _log),
        Part(
            "journal.json",
            later("newest rows of the journal"),
            ask("/v1/journal/extract", rows=JOURNAL_ROWS),
        ),
    )


Members = list[tuple[Part, bytes]]
Missing = list[tuple[Part, str]]


def _asked(wanted: Sequence[Part]) -> tuple[list[tuple[Part, Any]], Missing]:
    """All before any is written: whom one part names, no other part may name."""
    contents: list[tuple[Part, Any]] = []
    missing: Missing = []
    for part in wanted:
        try:
            contents.append((part, part.get()))
        except Trouble as trouble:
            missing.append((part, _why_missing(trouble)))
    return contents, missing


def _sifted(
    contents: Sequence[tuple[Part, Any]], missing: Missing, sieve: Sieve
) -> tuple[Members, Missing]:
    members: Members = []
    gaps = [(part, sieve.text(why)) for part, why in missing]
    left = TOTAL_BYTES
    for part, content in contents:
        text = _text(content, sieve)
        if len(text) > min(MEMBER_BYTES, left):
            gaps.append((part, say("too large: cut to what fits")))
            text = text[: min(MEMBER_BYTES, left)]
        members.append((part, text))
        left -= len(text)
    return members, gaps


def _why_missing(trouble: Trouble) -> str:
    if trouble.code == "no_such_path":
        return say("this daemon does not have it")
    return str(trouble)


def _text(content: Any, sieve: Sieve) -> bytes:
    if isinstance(content, str):
        return sieve.text(content).encode("utf-8", "replace")
    return (json.dumps(sieve.content(content), indent=1, ensure_ascii=False) + "\n").encode(
        "utf-8", "replace"
    )


def manifest_of(members: Members, missing: Missing, now: float) -> bytes:
    lines = [
        say("Made by vendctl {version} on {at}.", version=__version__, at=screen.at(now)),
        *screen.wrapped(say(NEVER_INSIDE)),
        "",
        *(f"{len(content):>9}  {part.name:<19} {say(part.what)}" for part, content in members),
    ]
    if missing:
        lines += ["", say("Not inside, or not whole:")]
        for part, why in missing:
            lines += screen.wrapped(f"{part.name}: {why}", "  ", "    ")
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def _bytes(members: Members) -> dict[str, bytes]:
    return {part.name: content for part, content in members}


def _folder(facts: Facts) -> str:
    machine = facts.settings.get("machine") or {}
    number = facts.status.get("machine_no") or machine.get("machine_no") or "unknown"
    stamp = time.strftime("%Y%m%dT%H%M%S", time.localtime(facts.now))
    return f"vending-{screen.clean(number)[:20].replace('/', '_')}-{stamp}"


def _write(target: Path, folder: str, contents: Mapping[str, bytes]) -> int:
    """The whole archive or none; its size. Raises Trouble."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        handle = os.open(target, flags, 0o600)
    except FileExistsError:
        raise Trouble(
            Exit.REFUSED,
            "file_exists",
            say("{file} is there already and is left alone: name another", file=target),
        ) from None
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(_packed(folder, contents))
            file.flush()
            os.fsync(file.fileno())
            return file.tell()
    except OSError as error:
        with contextlib.suppress(OSError):
            target.unlink()
        raise _unwritable(target, error) from error


def _unwritable(target: Path, error: OSError) -> Trouble:
    return Trouble(
        Exit.REFUSED,
        "not_written",
        say(
            "{file} cannot be written ({why}): name another place, like /tmp",
            file=target,
            why=error.strerror or error,
        ),
    )


def _packed(folder: str, contents: Mapping[str, bytes]) -> bytes:
    """tar.gz in memory: TOTAL_BYTES bounds it. Nothing in it tells who made it."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=packed, mode="wb") as squeezed,
        tarfile.open(fileobj=squeezed, mode="w") as archive,
    ):
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


# --------------------------------------------------------------------------- contents


def _settings(facts: Facts) -> dict[str, Any]:
    if facts.config.get("unreadable"):
        raise Trouble(Exit.REFUSED, "forbidden", say("this user may not read the settings"))
    return dict(facts.config)


def _versions(facts: Facts) -> dict[str, Any]:
    own = {
        "vendctl": __version__,
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "machine": platform.machine(),
    }
    return {"here": own, "daemon": facts.checkup.get("versions"), "unit": dict(facts.unit)}


def _outbox(facts: Facts) -> dict[str, Any]:
    _reached(facts)
    return {
        "waiting": facts.status.get("outbox"),
        "oldest_unsent": facts.checkup.get("oldest_unsent"),
        "broker": facts.checkup.get("broker"),
    }


def _reached(facts: Facts) -> None:
    if not facts.reached:
        raise Trouble(Exit.UNREACHABLE, "unreachable", facts.unreachable)


def _details(daemon: Daemon) -> list[Any]:
    newest = daemon.read("/v1/orders", limit=ORDERS_DETAILED).get("orders", [])
    return [
        daemon.read(
            path("orders", str(order["order_id"])), delivery_id=order.get("delivery_id") or None
        )
        for order in newest
    ]


def _trace(daemon: Daemon) -> str:
    frames: Iterator[Any] = daemon.lines("/v1/trace", seconds=TRACE_S)
    newest = deque(frames, maxlen=TRACE_LINES)
    return "".join(json.dumps(frame, ensure_ascii=False) + "\n" for frame in newest)


def _log(command: str = "journalctl") -> str:
    """As far as journald shows it to this user. Raises Trouble where that is nothing."""
    words = [command, "-u", UNIT, "--since", "-1h", "-n", str(LOG_LINES)]
    try:
        done = subprocess.run(  # noqa: S603 - fixed words
            [*words, "--no-pager", "-o", "short-iso"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LOG_S,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
    except FileNotFoundError:
        raise _no_log(say("there is no journalctl here, so no log of systemd")) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _no_log(say("journalctl did not tell: {why}", why=error)) from error
    if any(hint in done.stderr for hint in NOT_SHOWN):
        raise _no_log(
            say(
                "this user may not read the system's log: once more with sudo, or as a member of "
                "systemd-journal"
            )
        )
    if done.returncode != 0:
        said = (done.stderr.strip() or "?").splitlines()[-1]
        raise _no_log(say("journalctl did not tell: {why}", why=said))
    if not done.stdout.strip() or NO_ENTRIES in done.stdout:
        raise _no_log(say("the log has no line of {unit} within the last hour", unit=UNIT))
    return done.stdout


def _no_log(why: str) -> Trouble:
    return Trouble(Exit.REFUSED, "no_log", why)
