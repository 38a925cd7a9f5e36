"""vendingd: builds the parts from the settings, supervises them, talks to systemd.

The composition root: only this file (with `view` and `operations`) knows every
room. Exit codes: 0 after an orderly stop; 1 when it could not go on; 2 for wrong
usage or settings; 3 when another daemon holds the state directory.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from controller import __version__, config, logs, notify, prose
from controller.boards import PROTOCOLS, make_board
from controller.boards.base import read_options
from controller.boards.port import Port, PortFactory, real_port
from controller.checkup import Checkup
from controller.clock import Belief, LoopClock, boot_id
from controller.dispensing.dispenser import Dispenser, Limits
from controller.dispensing.floor import BOARD_GRACE_S
from controller.dispensing.interfaces import Board, Clock
from controller.dispensing.station import Rules
from controller.errors import (
    ConfigError,
    ControllerError,
    JournalDamaged,
    JournalError,
    JournalUnwritable,
    StateDirInUse,
)
from controller.journal.journal import Journal, open_journal
from controller.journal.opening import Opening
from controller.last_stop import record_stop
from controller.operations import Operations, StoredReports
from controller.remote import RemoteHand
from controller.service import shapes
from controller.service.server import start_service
from controller.service_mode import ServiceSwitch
from controller.tracing import TracedBoard, Tracing
from controller.uplink.intake import IntakeSettings
from controller.uplink.link import NO_SUBSCRIBERS, MqttSettings, TlsFiles
from controller.uplink.messages import Payloads
from controller.uplink.remote import Remote
from controller.uplink.session import Witness
from controller.uplink.uplink import Uplink
from controller.view import View

log = logging.getLogger("vending.daemon")

FLUSH_S = 3.0
"""At a stop: for results that are on their way. A loopback broker takes milliseconds, a
mobile line a second; what is left goes out after the next start."""

DRAIN_MARGIN_S = 10.0
"""Beyond the longest cycle timeout: its closing commit on a slow SD card."""

STOP_REST_S = 60.0
"""What a stop may take beyond the longest cycle timeout: the two above, the farewell to the
broker, the local service's last answers, the journal's last commit. So much has the unit's
TimeoutStopSec beyond the longest default cycle."""

CLOCK_LOOK_S = 1.0
"""How often an unset clock is asked for again."""

ROOM_LOOK_S = 1.0
"""How often a journal that could not be written is tried again."""

CHECK_AGAIN_S = 3600.0
"""After a background check that a failing disk cut short."""

FOUND_WAIT_S = 10.0
"""Units found waiting are not driven before our retained state was read: in a restored copy
they may have been given out already (P2, P13). A broker that is there answers within 3 s; one
that is not must not end an order (P12), and P4 allows a pause of 30 s."""

STDIN = 0

PRUNE_EVERY_S = 3600.0
"""Retention is counted in days."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `vendingd`."""
    parser = argparse.ArgumentParser(
        prog="vendingd",
        description="The vending controller's daemon.",
        epilog="See docs/operating.md.",
    )
    parser.add_argument("--config", required=True, type=Path, metavar="FILE")
    parser.add_argument("--check", action="store_true", help="check the settings, and exit")
    parser.add_argument(
        "--record-stop",
        action="store_true",
        help="for the unit's ExecStopPost: write down why the service stopped, and exit",
    )
    parser.add_argument(
        "--offline",
        type=Path,
        metavar="SOCKET",
        help="for vendctl --offline: no broker, no customer's cycle; the service at SOCKET alone",
    )
    parser.add_argument("--version", action="version", version=f"vendingd {__version__}")
    given = parser.parse_args(arguments)
    if given.check:
        return check(given.config)
    logs.configure()
    if given.record_stop:
        return record(given.config)
    try:
        settings, warnings = config.load(given.config)
    except ConfigError as mistakes:
        for line in str(mistakes).splitlines():
            tell("config_mistake", line)
        return 2
    for warning in warnings:
        log.warning("config_warning", extra={"fields": {"text": logs.Words(warning)}})
    code = 0
    try:
        asyncio.run(serve(settings, given.config, given.offline))
    except* StateDirInUse as trouble:
        code = fail(trouble, 3)
    except* ControllerError as trouble:
        code = fail(trouble, 1)
    return code


def check(path: Path) -> int:
    """`--check`: every mistake and warning, a line each."""
    errors, warnings = config.check_text(path)
    for line in warnings:
        sys.stderr.write(f"warning: {line}\n")
    for line in errors:
        sys.stderr.write(f"{line}\n")
    if not errors:
        sys.stdout.write(f"{path}: settings are sound\n")
    return 2 if errors else 0


def record(path: Path) -> int:
    """`--record-stop`, whatever else is wrong in the settings."""
    try:
        record_stop(config.state_dir(path), os.environ)
    except OSError as trouble:
        tell("stop_not_recorded", str(trouble))
        return 1
    return 0


def fail(group: BaseExceptionGroup[ControllerError], code: int) -> int:
    """The first trouble, as a person should read it."""
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    tell("stopped", f"vendingd: {first}")
    return code


def tell(event: str, words: str) -> None:
    """The end of the program: an event in the service's journal, a plain line at a terminal."""
    if logs.is_journal(sys.stderr, os.environ):
        log.critical(event, extra={"fields": {"text": logs.Words(words)}})
    else:
        sys.stderr.write(f"{words}\n")


async def serve(settings: config.Settings, config_file: Path, offline: Path | None = None) -> None:
    """Everything, until SIGTERM or SIGINT. Raises ControllerError when it can't go on.

    `offline`: the socket of a technician's `vendctl --offline`. Nobody asks the broker then, and
    what waits for customers waits on, with its deadlines.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if offline is not None:
        loop.add_reader(STDIN, _stop_with_vendctl, loop, stop)
    machine = settings.machine
    boot = boot_id()
    belief = Belief(
        machine.state_dir,
        boot,
        require_sync=settings.clock.require_sync,
        skew_s=settings.clock.skew_s,
    )
    clock = LoopClock(belief.now)
    payloads = Payloads(machine.machine_no)
    journal, opening = open_journal(
        machine.state_dir,
        clock=clock,
        announcer=payloads,
        boot=boot,
        skew_s=settings.clock.skew_s,
        retention_days=machine.result_retention_days,
    )
    belief.newest = lambda: journal.newest_time
    log.info("journal_open", extra={"fields": described(opening)})
    try:
        await Daemon(settings, journal, opening, clock, boot, config_file).run(stop, offline)
    except BaseException:
        journal.abandon()
        raise
    await journal.close()
    log.info("stopped_in_order")


def _stop_with_vendctl(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """vendctl holds the other end of our input: however it ends, nobody is left who waits for us,
    and the next daemon needs the journal's lock."""
    if not os.read(STDIN, 1024):
        loop.remove_reader(STDIN)
        stop.set()


def described(opening: Opening) -> dict[str, object]:
    return {
        "birth": opening.birth,
        "first": opening.first,
        "lost": opening.lost,
        "last_stop": opening.last_stop,
        "set_aside": str(opening.set_aside or ""),
    }


class Daemon:
    """The parts, wired; built inside the running loop."""

    def __init__(
        self,
        settings: config.Settings,
        journal: Journal,
        opening: Opening,
        clock: LoopClock,
        boot: str,
        config_file: Path,
    ) -> None:
        """`config_file`: what the settings came from, for the doctor."""
        self._settings = settings
        self._journal = journal
        self._opening = opening
        self._clock = clock
        machine = settings.machine
        self._cabinets = cabinets = config.cabinets(settings)
        self.tracing = Tracing(
            settings.service.socket.parent / "trace", traced_boards(settings), clock
        )
        boards: list[Board] = [
            make_board(
                table.name,
                table.protocol,
                table.port,
                config.board_options(table),
                clock,
                self._traced(table.name),
            )
            for table in settings.boards
        ]
        self.dispenser = Dispenser(
            cabinets,
            boards,
            journal,
            clock,
            Rules(
                boot=boot,
                late_drop_window_s=machine.late_drop_window_s,
                lane_failure_limit=machine.lane_failure_limit,
                enforce_stock=machine.enforce_stock,
                resume_after_reboot=machine.resume_after_reboot,
                service_ends_orders=settings.service.open_orders == "end",
                tests_need_service_mode=settings.service.tests_need_service_mode,
            ),
            Limits(
                max_units_per_order=machine.max_units_per_order,
                max_queued_orders=machine.max_queued_orders,
                max_parallel_cycles=machine.max_parallel_cycles,
            ),
        )
        self._offline = False
        self.view = View(self.dispenser, journal, opening, clock, boot, self._uplink_counters)
        self.service_mode = ServiceSwitch(
            self.dispenser, journal, clock, settings.service.idle_minutes * 60
        )
        self.operations = Operations(
            machine.machine_no,
            self.dispenser,
            journal,
            opening,
            self.view,
            clock,
            self._broker,
            {table.name: table.port for table in settings.boards},
            self.service_mode,
            self.tracing,
            lambda: self.uplink,
            Checkup(settings, config_file, journal, opening, lambda: self.uplink),
        )
        self.uplink = Uplink(
            mqtt_settings(settings),
            IntakeSettings(
                machine_no=machine.machine_no,
                order_ttl_s=machine.order_ttl_s,
                skew_s=int(settings.clock.skew_s),
                max_units=machine.max_units_per_order,
            ),
            clock,
            journal=journal,
            desk=self.dispenser,
            outbox=journal,
            reports=StoredReports(journal),
            view=self.view,
            remote=Remote(
                RemoteHand(self.operations),
                journal,
                clock,
                settings.service.remote_verbs,
                int(settings.clock.skew_s),
            ),
            on_retained_state=self._retained_state,
        )
        self._longest_cycle_s = max(cabinet.cycle_timeout_s for cabinet in cabinets)

    async def run(self, stop: asyncio.Event, offline: Path | None = None) -> None:
        """Until `stop` is set and the orderly end is over."""
        await self._sync_lanes()
        self._offline = offline is not None
        wait_s = FOUND_WAIT_S if offline is None else float("inf")
        self.dispenser.floor.found_wait_until = self._clock.monotonic() + wait_s
        service = await start_service(
            self.operations,
            socket=offline or self._settings.service.socket,
            read_group=self._settings.service.read_group,
            act_group=self._settings.service.act_group,
        )
        try:
            async with asyncio.TaskGroup() as group:
                parts = [
                    group.create_task(part, name=name)
                    for name, part in {
                        "dispenser": self.dispenser.run(),
                        **({"uplink": self.uplink.run()} if offline is None else {}),
                        "view": self.view.run(self._journal),
                        "service mode": self.service_mode.run(),
                        "clock": self._watch_clock(),
                        "journal room": self._watch_room(),
                        "watchdog": self._feed_watchdog(),
                        "journal check": self._check_journal(),
                        "retention": self._prune(),
                    }.items()
                ]
                await self.dispenser.boards_known(BOARD_GRACE_S)
                notify.ready(f"{self.view.mode()}, boards: {self._boards_in_words()}")
                log.info("ready", extra={"fields": {"boards": self._boards_in_words()}})
                await stop.wait()
                await self._leave(offline=offline is not None)
                for part in parts:
                    part.cancel()
        finally:
            await service.close()
            self.tracing.close()

    def _traced(self, board: str) -> PortFactory:
        """Real ports whose traffic is kept in the board's ring."""

        def port(spec: str, baudrate: int, clock: Clock) -> Port:
            made = real_port(spec, baudrate, clock)
            made.traffic.trace = self.tracing.of(board)
            return made

        return port

    async def _leave(self, *, offline: bool) -> None:
        """The running cycle ends, what is known is published, and we say goodbye."""
        notify.stopping("finishing the running cycle", self._longest_cycle_s + STOP_REST_S)
        log.info("stopping", extra={"fields": {"cycles": len(self.dispenser.running())}})
        if not await self.dispenser.drain(self._longest_cycle_s + DRAIN_MARGIN_S):
            log.error("cycle_left_open", extra={"fields": {"remedy": "the next start settles it"}})
        if offline:
            return
        limit = self._clock.monotonic() + FLUSH_S
        while self.uplink.session.connected and self._clock.monotonic() < limit:
            if not any((await self._journal.waiting()).values()):
                break
            await self._clock.sleep(0.05)
        await self.uplink.leave()

    # ------------------------------------------------------------------ small tasks

    async def _watch_clock(self) -> None:
        """P13: a journal without a birth (new, or found restored) gets one once the clock is
        believed and the disk takes it."""
        while True:
            try:
                if self._journal.birth is None and await self._journal.believe():
                    log.info("clock_believed", extra={"fields": {"birth": self._journal.birth}})
                    self.dispenser.bell.ring()
            except JournalError as trouble:
                log.warning("birth_waits", extra={"fields": {"error": str(trouble)}})
            await self._clock.sleep(CLOCK_LOOK_S)

    async def _sync_lanes(self) -> None:
        """P12: a full disk does not stop the daemon; it is tried again, and nothing begins."""
        floor = self.dispenser.floor
        try:
            await self._journal.sync_lanes(self._cabinets)
            await self._journal.has_room()
        except JournalUnwritable as trouble:
            if not floor.unwritable:
                log.error("journal_unwritable", extra={"fields": {"error": str(trouble)}})  # noqa: TRY400
            floor.unwritable = str(trouble)
            return
        floor.unwritable = ""

    async def _watch_room(self) -> None:
        while True:
            await self._clock.sleep(ROOM_LOOK_S)
            if not self.dispenser.floor.unwritable:
                continue
            await self._sync_lanes()
            if not self.dispenser.floor.unwritable:
                log.info("journal_writable")
                await self.dispenser.floor.refresh()

    async def _feed_watchdog(self) -> None:
        """Fed by the loop itself: a loop that hangs is what the watchdog is for."""
        interval = notify.watchdog_interval_s()
        while interval is not None:
            notify.watchdog()
            await self._clock.sleep(interval)

    async def _check_journal(self) -> None:
        """Damage ends the daemon, and the next start sets the journal aside (P13). A disk that
        can't be read now is looked at again: it is no reason to stop selling."""
        while True:
            try:
                await self._journal.background_check()
            except JournalUnwritable as trouble:
                log.error("journal_not_checked", extra={"fields": {"error": str(trouble)}})  # noqa: TRY400
                await self._clock.sleep(CHECK_AGAIN_S)
            else:
                break
        await self._journal.damage_found.wait()
        raise JournalDamaged(
            "a check by a technician found damage; see `journal_check` before this"
        )

    async def _prune(self) -> None:
        while True:
            try:
                await self._journal.prune()
            except JournalError as trouble:
                log.warning("prune_failed", extra={"fields": {"error": str(trouble)}})
            await self._clock.sleep(PRUNE_EVERY_S)

    async def _retained_state(self, told: Witness) -> None:
        """P13: another journal's state, or a later one of ours, tells of lost memory."""
        if told.journal is not None and self._journal.is_restored(
            told.journal, told.last_seq or 0, told.last_event_seq or 0
        ):
            log.error(
                "journal_lost_or_restored",
                extra={"fields": {"theirs": told.journal, "ours": self._journal.birth}},
            )
            await self._journal.rebirth("retained_state")
            await self.dispenser.floor.refresh()
        self.dispenser.floor.found_wait_until = float("-inf")
        self.dispenser.bell.ring()

    # ------------------------------------------------------------------ for people

    def _boards_in_words(self) -> str:
        return ", ".join(
            f"{name} {'up' if station.up else 'absent'}"
            for name, station in self.dispenser.stations.items()
        )

    def _broker(self) -> shapes.BrokerStatus:
        session = self.uplink.session
        return {
            "connected": session.connected,
            "since": session.since,
            "host": self._settings.mqtt.host,
            "port": self._settings.mqtt_port,
            "protocol": self._settings.mqtt.protocol,
            "offline": self._offline,
            "problem": self._refusals() if session.connected else session.last_error,
        }

    def _refusals(self) -> str:
        """Topics whose oldest message the broker refuses, "" when it takes them all."""
        return "; ".join(
            (prose.TOPIC_UNHEARD if code == NO_SUBSCRIBERS else prose.TOPIC_REFUSED).format(
                topic=topic, code=f"{code:02x}"
            )
            for topic, code in self.uplink.stuck_topics().items()
        )

    def _uplink_counters(self) -> Mapping[str, Any]:
        return self.uplink.counters()


def traced_boards(settings: config.Settings) -> list[TracedBoard]:
    return [
        TracedBoard(
            table.name,
            table.protocol,
            read_options(PROTOCOLS[table.protocol].options, config.board_options(table)).baudrate,
        )
        for table in settings.boards
    ]


def mqtt_settings(settings: config.Settings) -> MqttSettings:
    mqtt = settings.mqtt
    tls = None
    if mqtt.tls is not None:
        tls = TlsFiles(mqtt.tls.ca_file, mqtt.tls.cert_file, mqtt.tls.key_file)
    return MqttSettings(
        machine_no=settings.machine.machine_no,
        host=mqtt.host,
        port=settings.mqtt_port,
        prefix=mqtt.prefix,
        protocol=mqtt.protocol,
        client_id=settings.mqtt_client_id,
        keepalive_s=mqtt.keepalive_s,
        session_expiry_s=mqtt.session_expiry_s,
        username=mqtt.username,
        password_file=mqtt.password_file,
        tls=tls,
    )


if __name__ == "__main__":
    sys.exit(main())
