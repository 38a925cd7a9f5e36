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
    TOPIC_UNHEARD,
    TOPIC_REFUSED,
    BOARD_TROUBLE,
    STOPPED_FOR,
)
"""The narrower ones first: the first that fits is said."""
