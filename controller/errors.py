"""What can go wrong, as exceptions.

    ControllerError
    +-- ConfigError            the file says something we cannot run with
    +-- JournalError           (no OSError: a driver must not take it for its port's)
    |   +-- JournalUnreadable  it exists, and we cannot open it: a person must act (P13)
    |   +-- JournalUnwritable  disk full, read-only, I/O error: nothing may move (P12)
    |   |   +-- JournalUncertain  a commit failed, and a crash may bring it back all the same
    |   |   +-- ClockUnset     it has no birth yet (also Refused, `clock_unset`)
    |   +-- JournalDamaged     its pages contradict each other: it is set aside (P13)
    |   +-- StateDirInUse      another daemon holds the state directory
    +-- UnitDecided            the unit has its outcome already: somebody cancelled it meanwhile
    +-- BoardError
    |   +-- BoardOffline       no link to the board now (also ConnectionError)
    |   +-- BoardRefused       the board answered, and said no
    +-- Refused                a person's or a peer's request is refused; `code` says why
    |   +-- InServiceMode      no customer's cycle begins while a technician has the machine
    +-- FrameError             bytes that are no frame of the protocol (also ValueError)

Each message names what is wrong, where, and what to do; the daemon prints it
as it stands and never a stack trace for one of these.
"""


class ControllerError(Exception):
    """Base of everything that this project raises on purpose."""


class ConfigError(ControllerError, ValueError):
    """Scenario: a lane names a board that no [[board]] table defines."""


class JournalError(ControllerError):
    """Base of the journal's troubles."""


class JournalUnreadable(JournalError):
    """Scenario: the state directory belongs to another user; a newer schema."""


class JournalUnwritable(JournalError):
    """Scenario: the disk is full. Nothing moves until a write succeeds again."""


class JournalUncertain(JournalUnwritable):
    """Scenario: the sync of a commit fails, and so does the write that would undo it. It is not
    there now, and a crash may bring it back."""


class JournalDamaged(JournalError):
    """Scenario: the SD card returned other bytes than were written."""


class StateDirInUse(JournalError):
    """Scenario: a technician starts a second daemon by hand."""


class UnitDecided(ControllerError):
    """Scenario: a cancel arrives while the worker waits for the light eye."""


class BoardError(ControllerError):
    """Base of a board's troubles."""


class BoardOffline(BoardError, ConnectionError):
    """Scenario: the cable is out."""


class BoardRefused(BoardError):
    """Scenario: an error answer E0 to a request that the board should know."""


class Refused(ControllerError):
    """Scenario: a test vend is asked for while a customer's cycle runs.

    `template` is the English sentence with its `fields` in braces: vendctl says it in another
    language by that. It stands at the place that raises it, for `make messages` to find it.
    """

    def __init__(self, code: str, template: str, /, **fields: object) -> None:
        self.code = code
        self.template = template
        self.fields = {
            name: value if isinstance(value, int | float | str) else str(value)
            for name, value in fields.items()
        }
        super().__init__(template.format(**self.fields) if fields else template)


class InServiceMode(Refused):
    """Scenario: `vendctl service on` becomes durable while a customer's unit waits for the eye."""

    def __init__(self) -> None:
        super().__init__("service_mode", "a technician has the machine in service mode")


class ClockUnset(JournalUnwritable, Refused):
    """Scenario: a restored journal, and a clock that is not set yet: results wait for a birth."""

    def __init__(self, template: str, /) -> None:
        super().__init__("clock_unset", template)


class FrameError(ControllerError, ValueError):
    """Scenario: a frame whose check byte is wrong."""
