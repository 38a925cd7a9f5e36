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
CONNECTION_REFUSED = "connection refused"
TIMED_OUT = "timed out"
NAME_NOT_FOUND = "name not found"
NO_NAME_SERVER = "name not found: no answer from a name server"
NETWORK_UNREACHABLE = "network unreachable"
HOST_UNREACHABLE = "host unreachable"
LINE_CLOSED = "the line was cut, or the broker closed it (does another use our client id?)"
TOPIC_UNHEARD = "topic {topic} is refused (0x{code}: nobody subscribes to it)"
TOPIC_REFUSED = "topic {topic} is refused (0x{code}: see the broker's ACL)"

NO_STATE_DIR = (
    "there is no state directory {folder}: start the daemon once, or name its settings with "
    "--config"
)
STATE_DIR_IN_USE = (
    "{folder} is in use by {holder}: one daemon per state directory; stop that one first "
    "(systemctl stop vending-controller)"
)
PROCESS = "process {pid}"
ANOTHER_PROCESS = "another process"
JOURNAL_UNUSABLE = (
    "the journal in {folder} cannot be used ({why}): give the directory and its files to the "
    "daemon's user, look at how the disk is mounted, and start again; nothing was changed"
)
NO_ROOM_FOR_JOURNAL = "no room for the journal in {folder} ({why}): free disk space and start again"
HALF_MADE = "{file} is what a killed backup or restore left: name a whole one"
NO_SUCH_BACKUP = "there is no file {file}: name the backup's own file"
BACKUP_NO_FILE = "{file} is no file: name the backup's own file"
BACKUP_UNREADABLE = "{file} cannot be read ({why})"
NO_JOURNAL_OF_OURS = "{file} is no journal of a vending controller"
NEWER_JOURNAL = (
    "{file} has schema {schema}, written by a newer program; this one knows {newest}: install "
    "that version first"
)
NOT_WHOLE = "{file} is not whole: it has {bytes} bytes, and its first page tells of {whole}"
BACKUP_DAMAGED = "{file} is damaged: {why}"
OTHER_SCHEMA = "{file}: its schema is not that of version {version}"
NO_COUNTERS = "{file}: the row of counters is gone"
NO_ROOM_FOR_BACKUP = (
    "the backup takes {size} MB beside the present journal, and {folder} has {free} MB free of "
    "which {kept} MB are kept for customers: free disk space"
)

OF_THE_SYSTEM = (
    "Permission denied",
    "No such file or directory",
    "Is a directory",
    "Not a directory",
    "No space left on device",
    "Read-only file system",
    "Input/output error",
    "Connection refused",
)
"""strerror(3) of glibc, as far as a technician meets it."""
NO_SUCH_FILE = "no such file"
NOT_A_FILE = "not a file"
UNUSABLE_PATH = "unusable path"

PROSE = (
    *OF_THE_SYSTEM,
    NO_SUCH_FILE,
    NOT_A_FILE,
    UNUSABLE_PATH,
    CONNECTION_REFUSED,
    TIMED_OUT,
    NO_NAME_SERVER,
    NAME_NOT_FOUND,
    NETWORK_UNREACHABLE,
    HOST_UNREACHABLE,
    PROCESS,
    ANOTHER_PROCESS,
    NO_STATE_DIR,
    STATE_DIR_IN_USE,
    JOURNAL_UNUSABLE,
    NO_ROOM_FOR_JOURNAL,
    HALF_MADE,
    NO_SUCH_BACKUP,
    BACKUP_NO_FILE,
    BACKUP_UNREADABLE,
    NO_JOURNAL_OF_OURS,
    NEWER_JOURNAL,
    NOT_WHOLE,
    BACKUP_DAMAGED,
    OTHER_SCHEMA,
    NO_COUNTERS,
    NO_ROOM_FOR_BACKUP,
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
