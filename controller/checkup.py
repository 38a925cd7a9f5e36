"""What the daemon alone can see of what is wrong with it, for `vendctl doctor`.

Facts, not findings: what they mean and what to do is vendctl's to say
(`controller.cli.checks_*`). The settings, the certificates and the state directory
are readable by the daemon's user and not by a technician's.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import sqlite3
import ssl
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from controller import __version__, config
from controller.certificate_dates import dates_in_file
from controller.clock import kernel_says_synchronised
from controller.config_shown import shown, without_login
from controller.journal.files import SET_ASIDE, Files
from controller.journal.journal import Journal
from controller.journal.opening import Opening
from controller.service import shapes
from controller.uplink.uplink import Uplink

LIBRARIES = ("aiohttp", "paho-mqtt", "pydantic", "pyserial", "pyserial-asyncio", "transitions")

LISTED = 20
"""Journals set aside, mistakes of a file: more of them say nothing new."""


class Checkup:
    def __init__(
        self,
        settings: config.Settings,
        config_file: Path,
        journal: Journal,
        opening: Opening,
        uplink: Callable[[], Uplink],
    ) -> None:
        """`uplink` is asked when the doctor is: it is made after us."""
        self._settings = settings
        self._config_file = config_file
        self._stamp = _stamp(config_file)
        self._journal = journal
        self._opening = opening
        self._uplink = uplink

    async def facts(self) -> shapes.Checkup:
        here = await asyncio.to_thread(self._here)
        told = await self._journal.checkup()
        uplink = self._uplink()
        session = uplink.session
        answer: shapes.Checkup = {
            **here,  # type: ignore[typeddict-item]  # mypy does not unpack a plain dict
            "pid": os.getpid(),
            "versions": versions(),
            "clock": {
                "require_sync": self._settings.clock.require_sync,
                "synchronised": kernel_says_synchronised(),
                "skew_s": self._settings.clock.skew_s,
            },
            "broker": {
                "refused_subscriptions": list(session.refused_topics),
                "refused_topics": dict(uplink.stuck_topics()),
                "counters": dict(uplink.counters()),
            },
            "reserve_whole": self._journal.reserve_whole,
            "unclean_start": self._opening.unclean,
            "unknown_units": told["unknown_units"],
            "stops": told["stops"],
            "newest_cycles": told["newest_cycles"],
            "oldest_unsent": told["oldest_unsent"],
            "memory_lost_by": told["memory_lost_by"],
        }
        return answer

    def _here(self) -> dict[str, Any]:
        """Everything that reads files, in a thread."""
        errors, warnings = config.check_text(self._config_file)
        folder = self._settings.machine.state_dir
        return {
            "config": {
                "file": str(self._config_file),
                "errors": [without_login(each) for each in errors[:LISTED]],
                "warnings": [without_login(each) for each in warnings[:LISTED]],
                "changed": _stamp(self._config_file) != self._stamp,
                "settings": shown(self._settings),
            },
            "disk": disk(folder),
            "journal_files": journal_files(Files(folder)),
            "certificates": certificates(self._settings),
        }


def versions() -> dict[str, str]:
    found = {
        "vendingd": __version__,
        "python": sys.version.split()[0],
        "sqlite": sqlite3.sqlite_version,
        "openssl": ssl.OPENSSL_VERSION,
        "system": platform.platform(),
    }
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "?"
    return found


def disk(folder: Path) -> shapes.DiskFacts | None:
    """Of the file system below the state directory; None when it cannot be asked."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return {
        "folder": str(folder),
        "free_bytes": found.f_bavail * found.f_frsize,
        "total_bytes": found.f_blocks * found.f_frsize,
        "free_files": found.f_favail,
        "total_files": found.f_files,
        "read_only": bool(found.f_flag & os.ST_RDONLY),
    }


def journal_files(files: Files) -> shapes.JournalFiles:
    aside = sorted(path.name for path in files.folder.glob(SET_ASIDE))
    return {
        "bytes": _size(files.database),
        "log_bytes": _size(files.wal),
        "damage_flag": files.damaged.exists(),
        "set_aside": aside[-LISTED:],
    }


def certificates(settings: config.Settings) -> list[shapes.CertificateFacts]:
    """The dates of the files that [mqtt.tls] names. Of an authority's file with several
    certificates, the one that holds longest: the others are there for a change-over."""
    tls = settings.mqtt.tls
    if tls is None:
        return []
    named: Mapping[str, Path | None] = {"cert_file": tls.cert_file, "ca_file": tls.ca_file}
    return [_certificate(role, path) for role, path in named.items() if path is not None]


def _certificate(role: str, path: Path) -> shapes.CertificateFacts:
    try:
        dates = dates_in_file(path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        return {
            "role": role,
            "file": str(path),
            "not_before": None,
            "not_after": None,
            "problem": str(why)[:200],
        }
    chosen = max(dates, key=lambda each: each.not_after) if role == "ca_file" else dates[0]
    return {
        "role": role,
        "file": str(path),
        "not_before": chosen.not_before,
        "not_after": chosen.not_after,
        "problem": "",
    }


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
