"""Everything that `vendctl doctor` can find: one table, code -> what it means and what to do.

The order of the table is the order of the page: what stops everything comes before
what stops one board, and that before what can wait. Codes are stable. Sentences take
`{subject}` and the facts of their finding; they are said through `words.say`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from controller.cli.words import later


class State(StrEnum):
    BAD = "bad"
    """Somebody must act: goods are not sold, or results do not leave."""
    LOOK = "look"
    """It goes on, and deserves a look."""
    FINE = "fine"


@dataclass(frozen=True, slots=True)
class Meaning:
    state: State
    cause: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    code: str
    """A key of MEANINGS."""
    subject: str = ""
    """What it is about: a board, a cabinet, a lane, a file; empty: the machine."""
    facts: Mapping[str, Any] = field(default_factory=dict)


_BAD, _LOOK, _FINE = State.BAD, State.LOOK, State.FINE

MEANINGS: Mapping[str, Meaning] = {
    # ------------------------------------------------------------ the daemon
    "daemon_not_running": Meaning(
        _BAD,
        later("The service is {active} (result: {result}). Nothing can be sold without it."),
        later(
            "The first thing to mend. Why it ended: sudo journalctl -u vending-controller -n 30. "
            "Then: sudo systemctl start vending-controller"
        ),
    ),
    "daemon_restarting": Meaning(
        _BAD,
        later("The service ends and is started again, {restarts} times so far (result: {result})."),
        later(
            "The first thing to mend. Its last lines name the cause: sudo journalctl -u "
            "vending-controller -n 30"
        ),
    ),
    "daemon_unreachable": Meaning(
        _BAD,
        later("{why}"),
        later("The first thing to mend: without it only the checks below could be made."),
    ),
    # ------------------------------------------------------------ settings, rights
    "config_invalid": Meaning(
        _BAD,
        later("{text}"),
        later("Mend the file; the daemon does not start with it. Then: vendctl config check"),
    ),
    "state_dir_missing": Meaning(
        _BAD,
        later("The directory {subject} of the journal is not there."),
        later("sudo systemd-tmpfiles --create, or start the service, which makes it"),
    ),
    "state_dir_not_ours": Meaning(
        _BAD,
        later(
            "{subject} belongs to {owner}, and the service runs as {user}: it cannot write there."
        ),
        later("sudo chown -R {user}: {subject}"),
    ),
    # ------------------------------------------------------------ memory: disk, journal, clock
    "disk_read_only": Meaning(
        _BAD,
        later("The disk below {subject} is read-only; no motor moves without a journal."),
        later(
            "dmesg tells why; a worn card turns so by itself: replace it. "
            "Else: sudo mount -o remount,rw …"
        ),
    ),
    "disk_full": Meaning(
        _BAD,
        later("The disk below {subject} is full: {free_mib} MiB and {free_files} files are left."),
        later(
            "Make room: sudo journalctl --vacuum-size=100M; sudo apt-get clean; never delete "
            "journal.*"
        ),
    ),
    "journal_unwritable": Meaning(
        _BAD,
        later("The journal cannot be written ({why}); no motor moves."),
        later("Mend the disk; the daemon goes on by itself within a second."),
    ),
    "reserve_missing": Meaning(
        _BAD,
        later("The space put by for closing a cycle on a full disk is not there."),
        later("Make room on the disk: it is put by again by itself."),
    ),
    "journal_damaged": Meaning(
        _BAD,
        later(
            "Damage was found in the journal; the next start sets it aside and begins a new one."
        ),
        later(
            "Make a copy of {subject} for support, then: sudo systemctl restart vending-controller"
        ),
    ),
    "clock_unset": Meaning(
        _BAD,
        later(
            "The clock was never set since boot; no order is taken, because deadlines mean nothing."
        ),
        later(
            "timedatectl; open NTP (UDP 123) to a server, or name one in "
            "/etc/systemd/timesyncd.conf"
        ),
    ),
    "clock_behind": Meaning(
        _BAD,
        later("The clock says {wall}, and the journal knows {newest}: one of them is wrong."),
        later("When the clock is right now: vendctl clock accept. Else set it: timedatectl"),
    ),
    "clock_not_believed": Meaning(
        _BAD,
        later("The clock is synchronised and not believed yet."),
        later("It takes a second; if it stays: sudo journalctl -u vending-controller -n 30"),
    ),
    "journal_lost": Meaning(
        _BAD,
        later("Cabinet {subject} waits: the journal was lost, and nobody counted its lanes since."),
        later(
            "vendctl stock fill {subject}, or stock set for each lane; then: "
            "vendctl cabinet start {subject}"
        ),
    ),
    "journal_restored": Meaning(
        _BAD,
        later(
            "Cabinet {subject} waits: a backup of the journal was put back, what was given out "
            "after it is forgotten, and nobody counted its lanes since."
        ),
        later(
            "vendctl stock fill {subject}, or stock set for each lane; then: "
            "vendctl cabinet start {subject}"
        ),
    ),
    # ------------------------------------------------------------ ports and boards
    "port_missing": Meaning(
        _BAD,
        later("{port} is not there."),
        later(
            "Is the adapter's cable in? What is there: ls -l /dev/serial/by-path. "
            "A cable in another socket has another name: put it into [[board]] port"
        ),
    ),
    "port_denied": Meaning(
        _BAD,
        later("The daemon may not open {port} (owner {owner}, group {group}, mode {mode})."),
        later(
            "sudo usermod -aG {group} {user}, or mend the rule that made it; then: "
            "sudo systemctl restart vending-controller"
        ),
    ),
    "port_busy": Meaning(
        _BAD,
        later("{port} is held by {holder}."),
        later("End that program; where it is ModemManager: sudo apt-get remove modemmanager"),
    ),
    "port_unreachable": Meaning(
        _BAD,
        later("The serial server at {port} is not reached ({why})."),
        later("Check its power, its network cable, its address and its port number."),
    ),
    "port_trouble": Meaning(
        _BAD,
        later("{port} cannot be used: {why}"),
        later("Pull the adapter and plug it in again; then try another adapter."),
    ),
    "board_not_understood": Meaning(
        _BAD,
        later(
            "Bytes come from board {subject} ({bytes_in}), and not one of them is a frame of "
            "{protocol}"
            " ({baudrate} baud)."
        ),
        later(
            "Another baud rate, another protocol, or another device on {port}: compare the board's "
            "label with [[board]] protocol and baudrate"
        ),
    ),
    "board_silent": Meaning(
        _BAD,
        later("{port} is open, and board {subject} says nothing."),
        later(
            "Has the board power (its lamp)? Then the cable: RX and TX swapped, ground missing. "
            "Then: is it the right port?"
        ),
    ),
    "board_lost": Meaning(
        _BAD,
        later("Board {subject} was understood and then lost ({why})."),
        later("Its power and its cable; how often: vendctl link"),
    ),
    "board_swapped": Meaning(
        _BAD,
        later("Another board answers as {subject} than the one that the journal knows."),
        later(
            "When it is to stay: vendctl board accept {subject}. Else put the old one back: "
            "it has the "
            "records of this machine"
        ),
    ),
    "board_out_of_service": Meaning(
        _BAD,
        later("Board {subject} is out of service: {why}"),
        later("Look at the board; when it is right: vendctl board accept {subject}"),
    ),
    "board_quarantined": Meaning(
        _BAD,
        later(
            "A cycle of board {subject} has no answer; no motor of it moves for {seconds} s "
            "at most."
        ),
        later(
            "Wait. If it comes again: the board loses power while a motor turns, or its "
            "cable is bad"
        ),
    ),
    # ------------------------------------------------------------ what hurts, what blocks
    "motor_may_turn": Meaning(
        _BAD,
        later("A motor of cabinet {subject} may still turn: its board said that it did not stop."),
        later(
            "Do not reach in. Take the power from the cabinet, look at the motor, "
            "then: vendctl cabinet start {subject}"
        ),
    ),
    "door_open": Meaning(
        _BAD,
        later("Board {subject} says that the door is open; customers get nothing."),
        later("Close it. If it is closed: the switch or its wire"),
    ),
    "eye_faulty": Meaning(
        _BAD,
        later("The light eye of board {subject} is faulty."),
        later("Its plug on the board, then its wire, then the eye itself"),
    ),
    "eye_blocked": Meaning(
        _BAD,
        later(
            "The light eye of board {subject} is blocked. A unit that waits starts its motor the "
            "moment it is clear."
        ),
        later(
            "{stop}. Take out what lies in the beam; if nothing does: clean both lenses, then see "
            "that sender and receiver face each other. Hands out: {start}"
        ),
    ),
    "harness_open": Meaning(
        _BAD,
        later(
            "All {count} lanes of board {subject} that were tried say that no motor is connected."
        ),
        later(
            "Look at the harness, not at the motors: the plug between board and motors, its common "
            "wire, the motors' supply and its fuse"
        ),
    ),
    # ------------------------------------------------------------ broker
    "broker_unreachable": Meaning(
        _BAD,
        later("No connection to {subject} ({why}); orders do not arrive, results wait here."),
        later("{hint}"),
    ),
    "broker_refuses": Meaning(
        _BAD,
        later("{subject} refuses us: {why}"),
        later(
            "User name and password: [mqtt] username and password_file, against the broker's list"
        ),
    ),
    "broker_tls": Meaning(
        _BAD,
        later("TLS with {subject} fails: {why}"),
        later(
            "The dates below; then [mqtt.tls] ca_file (does it sign the broker's "
            "certificate?), and "
            "[mqtt] host (does the certificate name it?)"
        ),
    ),
    "broker_lost": Meaning(
        _BAD,
        later("The connection to {subject} ended: {why}"),
        later(
            "If it comes again and again: two machines with one client_id, a topic that the "
            "broker's "
            "ACL forbids (mosquitto cuts the line then; its log says Denied), or a bad line"
        ),
    ),
    "subscription_refused": Meaning(
        _BAD,
        later("The broker refuses our subscription to {subject}: such orders never arrive."),
        later("The broker's ACL: this machine must be allowed to read {subject}"),
    ),
    "topic_unheard": Meaning(
        _BAD,
        later("Nobody subscribes to our topic {subject}; its messages wait here."),
        later(
            "The platform is not connected to this broker, or listens to another prefix or machine "
            "number"
        ),
    ),
    "topic_refused": Meaning(
        _BAD,
        later("The broker refuses our topic {subject} (0x{reason:02x}); its messages wait here."),
        later("The broker's ACL: this machine must be allowed to write {subject}"),
    ),
    "certificate_expired": Meaning(
        _BAD,
        later("The certificate {subject} ended on {not_after}."),
        later("Renew it; then: sudo systemctl restart vending-controller"),
    ),
    "certificate_early": Meaning(
        _BAD,
        later("The certificate {subject} holds only from {not_before}, and the clock says {now}."),
        later("Is the clock right (timedatectl)? Else another certificate"),
    ),
    "outbox_stuck": Meaning(
        _BAD,
        later("The broker is connected, and {count} messages of {subject} wait since {since}."),
        later(
            "sudo journalctl -u vending-controller | grep publish_refused; then the broker's "
            "own log"
        ),
    ),
    # ------------------------------------------------------------ goods and lanes
    "unit_unknown": Meaning(
        _BAD,
        later("Nobody knows whether unit {unit} of order {order} (lane {channel}) fell: {why}"),
        later(
            "Look at lane and camera, then one of: vendctl resolve {order} {unit} --delivered, or "
            "--not-delivered"
        ),
    ),
    "lane_suspended": Meaning(
        _BAD,
        later("Lane {subject} is out of sale: {why}"),
        later("{hint}. When it is mended: vendctl test {subject}, vendctl lane enable {subject}"),
    ),
    "lane_unresolved": Meaning(
        _BAD,
        later("Lane {subject} holds goods that nobody is sure of."),
        later("{hint}"),
    ),
    "crashes": Meaning(
        _BAD,
        later("The daemon ended by itself {count} times in a day ({kinds})."),
        later(
            "vendctl doctor --bundle FILE, and send it to support; sudo journalctl -u "
            "vending-controller -n 30"
        ),
    ),
    # ------------------------------------------------------------ worth a look
    "daemon_no_facts": Meaning(
        _LOOK,
        later("The daemon did not tell what only it knows ({why})."),
        later(
            "An older daemon: restart it after an upgrade. Else: "
            "sudo journalctl -u vending-controller -n 30"
        ),
    ),
    "unit_asked": Meaning(
        _LOOK,
        later(
            "Unit {unit} of order {order} (lane {channel}) is unknown, and its board is "
            "still heard."
        ),
        later("Wait until the quarantine is over, then look again"),
    ),
    "eye_refuses": Meaning(
        _LOOK,
        later(
            "Board {subject} refused the newest cycle of every lane tried before it moved a motor."
        ),
        later("It looks at its light eye first: is something in the beam, are the lenses clean?"),
    ),
    "eye_unverified": Meaning(
        _LOOK,
        later(
            "Nobody has read the light eye of cabinet {subject}: its board cannot, or just came up."
        ),
        later("If it stays so, the board cannot tell: keep the chute clear"),
    ),
    "board_restarts": Meaning(
        _LOOK,
        later("Board {subject} restarted {count} times within a day (newest cause: {why})."),
        later("Its power supply under load; then the board"),
    ),
    "line_noisy": Meaning(
        _LOOK,
        later("{bad} of {all} frames from board {subject} were damaged."),
        later("Keep its cable away from motor wires; check ground and shield; then the adapter"),
    ),
    "service_mode": Meaning(
        _LOOK,
        later("Service mode is on (by {who}): no order is taken."),
        later("When the visit is over: vendctl service off. It ends by itself after idle minutes"),
    ),
    "cabinet_stopped": Meaning(
        _LOOK,
        later("Cabinet {subject} was stopped by a person: {why}"),
        later("When all hands are out: vendctl cabinet start {subject}"),
    ),
    "lane_disabled": Meaning(
        _LOOK,
        later("Lane {subject} was taken out of sale by a person: {why}"),
        later("When it is right: vendctl lane enable {subject}"),
    ),
    "lanes_empty": Meaning(
        _LOOK,
        later("{count} lanes are empty: {lanes}"),
        later("Fill them, then: vendctl stock set LANE N, or vendctl stock fill"),
    ),
    "disk_low": Meaning(
        _LOOK,
        later("The disk below {subject} has {free_mib} MiB left."),
        later("sudo journalctl --vacuum-size=100M; sudo apt-get clean; never delete journal.*"),
    ),
    "journal_set_aside": Meaning(
        _LOOK,
        later("{count} damaged or replaced journals lie in {subject} ({newest})."),
        later("Send them to support; they are never deleted by themselves"),
    ),
    "outbox_waits": Meaning(
        _LOOK,
        later("{count} messages of {subject} wait for the broker since {since}."),
        later("They leave by themselves once it is connected; nothing is lost"),
    ),
    "certificate_ends": Meaning(
        _LOOK,
        later("The certificate {subject} ends on {not_after}, in {days} days."),
        later("Renew it before; then: sudo systemctl restart vending-controller"),
    ),
    "certificate_unread": Meaning(
        _LOOK,
        later("The dates of {subject} could not be read: {why}"),
        later("Is it a PEM file, and may the daemon's user read it?"),
    ),
    "clock_unguarded": Meaning(
        _LOOK,
        later(
            "The clock is believed whatever it says: require_sync is false, and it is not "
            "synchronised."
        ),
        later("For test benches only: remove [clock] require_sync on a machine that sells"),
    ),
    "config_changed": Meaning(
        _LOOK,
        later("{subject} was changed after the daemon had read it."),
        later("sudo systemctl restart vending-controller (it ends the running cycle first)"),
    ),
    "config_warning": Meaning(
        _LOOK, later("{text}"), later("The daemon runs with it; think it over")
    ),
    "config_unread": Meaning(
        _LOOK,
        later("{user} may not read {subject}, so it was not checked."),
        later("sudo vendctl doctor"),
    ),
    "last_stop": Meaning(
        _LOOK,
        later("The daemon's last life ended by {how}; {count} such ends in a week."),
        later("{hint}"),
    ),
    "may_only_look": Meaning(
        _LOOK,
        later("{user} may look, and not act: only root and the group {group} may."),
        later("sudo usermod -aG {group} {user}, then log in again"),
    ),
    "versions_differ": Meaning(
        _LOOK,
        later("The daemon is version {daemon}, and vendctl {own}."),
        later("sudo systemctl restart vending-controller"),
    ),
    # ------------------------------------------------------------ fine
    "daemon_fine": Meaning(_FINE, later("it answers; version {version}, since {since}")),
    "config_fine": Meaning(_FINE, later("{subject} is right")),
    "rights_fine": Meaning(_FINE, later("{user} may look and act")),
    "disk_fine": Meaning(_FINE, later("{free_mib} MiB free")),
    "journal_fine": Meaning(_FINE, later("whole and writable, {mib} MiB")),
    "clock_fine": Meaning(_FINE, later("believed; it says {wall}")),
    "port_fine": Meaning(_FINE, later("{port}")),
    "board_fine": Meaning(_FINE, later("it answers ({protocol}); {text}")),
    "eye_fine": Meaning(_FINE, later("{level}")),
    "door_fine": Meaning(_FINE, later("closed")),
    "cabinet_fine": Meaning(_FINE, later("it sells; {lanes_ok} of {lanes} lanes in order")),
    "lanes_fine": Meaning(_FINE, later("all {count} in order")),
    "broker_fine": Meaning(_FINE, later("connected to {subject} since {since}")),
    "offline_fine": Meaning(_FINE, later("not used by --offline, not checked; results wait here")),
    "certificate_fine": Meaning(_FINE, later("{subject}, until {not_after}")),
    "outbox_fine": Meaning(_FINE, later("nothing waits")),
    "units_fine": Meaning(_FINE, later("no unit is unknown")),
    "stops_fine": Meaning(_FINE, later("the last stop was in order")),
}

RANK: Mapping[str, int] = {code: place for place, code in enumerate(MEANINGS)}

LANE_HINTS: Mapping[str, str] = {
    "motor_missing": later("The motor's plug, then its wire, then the motor"),
    "motor_fault": later("The motor turns hard or its switch is bad"),
    "motor_did_not_stop": later("The motor's home switch; do not reach in before its power is off"),
    "jammed": later("Take out what is stuck"),
    "no_drop": later("Look whether the lane is empty or an item hangs"),
    "failures": later("Why: vendctl lane LANE"),
    "double_drop": later("Look how the items are loaded"),
}
"""Why a lane was suspended -> where to look. Said through `words.say`."""
ANY_LANE_HINT = later("Look at the lane")

BROKER_HINTS: tuple[tuple[str, str], ...] = (
    (
        "name",
        later("The name does not resolve: [mqtt] host, and the machine's DNS (resolvectl status)"),
    ),
    ("refused", later("Nobody listens on that port: is the broker running, is [mqtt] port right?")),
    (
        "timed out",
        later("No answer: a firewall, or no way into the network (ip route; ping the host)"),
    ),
    ("unreachable", later("No way into the network: cable, modem, SIM (ip route; ping the host)")),
)
"""A word of the operating system's message -> where to look."""
ANY_BROKER_HINT = later("Network cable or modem, then [mqtt] host and port, then the broker itself")
