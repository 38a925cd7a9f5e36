"""Facts -> findings: the daemon itself, its settings, what this user may do, how it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from controller import __version__
from controller.cli import screen
from controller.cli.checks_facts import Facts
from controller.cli.checks_words import Finding
from controller.cli.words import later, say

DAY_S = 86_400.0
WEEK_S = 7 * DAY_S

CRASHES_A_DAY = 3
"""One may be chance; three of a day are a cause that comes back."""

ENDS: Mapping[str, str] = {
    "power": later("a power cut"),
    "crash": later("a crash"),
    "watchdog": later("its watchdog"),
}
"""How a life ended, in words."""

AFTER: Mapping[str, str] = {
    "power": later("Did somebody pull the plug? Else the supply, its socket and its fuse"),
    "crash": later(
        "vendctl doctor --bundle FILE, and send it to support; it goes on by itself meanwhile"
    ),
    "watchdog": later(
        "It hung and was started again. If it comes again: vendctl doctor --bundle FILE, and "
        "send it to support"
    ),
}
"""How a life ended -> what to do."""

BY_ITSELF = ("crash", "watchdog")

ROOT = 0


def service(facts: Facts) -> Iterator[Finding]:
    """Whether it runs and answers; where it does not, what systemd says."""
    if facts.reached:
        status = facts.status
        since = screen.at(status.get("since"))
        yield Finding("daemon_fine", facts={"version": status.get("version", "?"), "since": since})
    else:
        yield from _by_systemd(facts)
        yield Finding("daemon_unreachable", facts.socket, {"why": facts.unreachable})
    if facts.no_checkup:
        yield Finding("daemon_no_facts", facts={"why": facts.no_checkup})


def _by_systemd(facts: Facts) -> Iterator[Finding]:
    unit = facts.unit
    if not unit:
        return
    active, result = unit.get("ActiveState", "?"), unit.get("Result", "?")
    restarts = unit.get("NRestarts", "0")
    if unit.get("SubState") == "auto-restart" or (active == "activating" and restarts != "0"):
        yield Finding("daemon_restarting", facts={"restarts": restarts, "result": result})
    elif active not in ("active", "reloading"):
        yield Finding("daemon_not_running", facts={"active": active, "result": result})


def settings(facts: Facts) -> Iterator[Finding]:
    config = facts.config
    file = str(config.get("file", ""))
    if config.get("unreadable"):
        yield Finding("config_unread", file, {"user": facts.user.name})
        return
    for text in config.get("errors", ()):
        yield Finding("config_invalid", file, {"text": text})
    for text in config.get("warnings", ()):
        yield Finding("config_warning", file, {"text": text})
    if config.get("changed"):
        yield Finding("config_changed", file)
    if not config.get("errors") and not config.get("warnings") and not config.get("changed"):
        yield Finding("config_fine", file)


def rights(facts: Facts) -> Iterator[Finding]:
    """Who may not even look is told so by `daemon_unreachable`, with the remedy."""
    if not facts.reached:
        return
    group = str((facts.settings.get("service") or {}).get("act_group", "vending-tech"))
    user = facts.user
    if user.uid == ROOT or group in user.groups or user.name == facts.daemon_user:
        yield Finding("rights_fine", facts={"user": user.name})
    else:
        yield Finding("may_only_look", facts={"user": user.name, "group": group})


def state_directory(facts: Facts) -> Iterator[Finding]:
    """Only with the daemon away: one that answers has its journal open there."""
    folder = str((facts.settings.get("machine") or {}).get("state_dir", ""))
    if facts.reached or not folder or facts.state_dir_owner == "":
        return
    if facts.state_dir_owner is None:
        yield Finding("state_dir_missing", folder)
    elif facts.unit.get("User") and facts.state_dir_owner not in (facts.unit["User"], "root"):
        names = {"owner": facts.state_dir_owner, "user": facts.unit["User"]}
        yield Finding("state_dir_not_ours", folder, names)


def versions(facts: Facts) -> Iterator[Finding]:
    theirs = facts.status.get("version")
    if theirs and theirs != __version__:
        yield Finding("versions_differ", facts={"daemon": theirs, "own": __version__})


def stops(facts: Facts) -> Iterator[Finding]:
    """How its lives ended, by the `restart` events."""
    if not facts.reached:
        return
    past = facts.checkup.get("stops", ())
    newest = facts.status.get("last_stop", "clean")
    today = Counter(
        stop["last_stop"]
        for stop in past
        if stop["last_stop"] in BY_ITSELF and facts.now - stop["at"] < DAY_S
    )
    if today.total() >= CRASHES_A_DAY:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(today.items()))
        yield Finding("crashes", facts={"count": today.total(), "kinds": kinds})
    elif newest != "clean":
        week = [stop for stop in past if facts.now - stop["at"] < WEEK_S]
        count = sum(stop["last_stop"] != "clean" for stop in week)
        how = say(ENDS[newest]) if newest in ENDS else newest
        hint = say(AFTER.get(str(newest), AFTER["crash"]))
        told = {"kind": newest, "how": how, "count": max(count, 1), "hint": hint}
        yield Finding("last_stop", facts=told)
    else:
        yield Finding("stops_fine")


CHECKS = (service, settings, state_directory, rights, versions, stops)
