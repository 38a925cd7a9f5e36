"""What the daemon says in words inside its answers, as templates: why a board, a cabinet or a
test vend stands. In the answers (and over MQTT) they are English sentences; vendctl knows them
again by their templates and says them in its own language.
"""

from __future__ import annotations

BOARD_TROUBLE = "board {board}: {why}"
BOARD_SILENT = "board {board} does not answer"
BOARD_QUARANTINED = "board {board} is quarantined"
NO_GOOD_LANE = "no lane of it is in order"
STOPPED_FOR = "stopped: {why}"
CYCLE_IDS_COLLIDE = "cycle ids collide: run `vendctl board accept` after a look at the board"

A_CYCLE_RUNS = "a cycle runs: {job}"
EYE_IS = "the light eye is {eye}"
ITS_TURN = "its turn"

PORT_NOT_OPENED = "the port was not opened yet"
NO_POLL = "no POLL from the board yet; is it powered, are cable and baud rate right?"
NOTHING_HEARD = "nothing heard for {seconds} s; is the board powered?"
SYNCHRONISES = "the board restarted and synchronises"
NO_ANSWER = "no answer to {sends} sends of {request}; is the board powered?"
UPTIME_WENT_BACK = "the board restarted: its uptime went back"
WAITS_FOR_HELLO = "the board restarted: it waits for a HELLO"

LINE_GONE = "{port}: the line is gone"
CABLE_OUT = "{port}: {cause}; is the cable in? `ls -l /dev/serial/by-path` shows what is there"
ADAPTER_OUT = "{port}: {cause}; is the adapter still plugged in?"
OTHER_END_GONE = "{port}: {cause}; the other end is gone; is the adapter still plugged in?"
NOT_PERMITTED = (
    "{port}: {cause}; add the daemon's user to group dialout (usermod -aG dialout USER) and restart"
)
PORT_BUSY = "{port}: {cause}; another process owns it; `fuser -v DEVICE` names it, end that one"
NOBODY_LISTENS = (
    "{port}: {cause}; the serial server is there and does not listen; check its port number"
)
SERVER_AWAY = "{port}: {cause}; check address and cable of the serial server"

NO_CONNECTION = "no connection to {broker}: {why}"
BROKER_REFUSED = "the broker refused: {why}"
BROKER_ENDED_IT = "the broker ended it: {why}"
LINE_CLOSED = "the line was cut, or the broker closed it (does another use our client id?)"
TOPIC_UNHEARD = "topic {topic} is refused (0x{code}: nobody subscribes to it)"
TOPIC_REFUSED = "topic {topic} is refused (0x{code}: see the broker's ACL)"

PROSE = (
    BOARD_SILENT,
    BOARD_QUARANTINED,
    NO_GOOD_LANE,
    CYCLE_IDS_COLLIDE,
    A_CYCLE_RUNS,
    EYE_IS,
    ITS_TURN,
    PORT_NOT_OPENED,
    NO_POLL,
    NOTHING_HEARD,
    SYNCHRONISES,
    NO_ANSWER,
    UPTIME_WENT_BACK,
    WAITS_FOR_HELLO,
    LINE_GONE,
    CABLE_OUT,
    OTHER_END_GONE,
    ADAPTER_OUT,
    NOT_PERMITTED,
    PORT_BUSY,
    NOBODY_LISTENS,
    SERVER_AWAY,
    NO_CONNECTION,
    BROKER_REFUSED,
    BROKER_ENDED_IT,
    LINE_CLOSED,
    TOPIC_UNHEARD,
    TOPIC_REFUSED,
    BOARD_TROUBLE,
    STOPPED_FOR,
)
"""The narrower ones first: the first that fits is said."""
