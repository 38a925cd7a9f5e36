"""The computer's clock, which need not show the time; and what a daemon could know of it.

The world's own time is true: the platform stamps its commands with it. The computer's
clock is set forward and back, drifts, and shows anything at all after a boot without a
battery, until the network's time comes (`synchronised`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.sim.matrix import CLOCK

if TYPE_CHECKING:
    from tests.sim.world import World

SETTLES_S = 1.0
"""A drive that was decided before the clock moved is on the wire well within this."""
NEVER = float("-inf")


@dataclass
class WallClock:
    """`true` is the world's time in Unix seconds; this clock shows `now()`."""

    true: Callable[[], float]
    synchronised: bool = True
    """The kernel's word: disciplined by the network's time since this boot."""
    moved_at: float = NEVER
    """True time of the newest change, or of the newest word about synchronisation."""
    battery_dead: tuple[float, float] | None = None
    """What it shows after the next power cut, and seconds until the network's time comes."""
    _shown: float = field(default=0.0, repr=False)
    _since: float = field(default=0.0, repr=False)
    _rate: float = field(default=1.0, repr=False)

    def __post_init__(self) -> None:
        self._shown = self._since = self.true()

    def now(self) -> float:
        return self._shown + (self.true() - self._since) * self._rate

    @property
    def error(self) -> float:
        """Seconds ahead of the true time; 0 on a clock that nobody ever touched."""
        return self.now() - self.true()

    def set(self, shown: float, rate: float | None = None) -> None:
        self._shown, self._since = shown, self.true()
        self._rate = self._rate if rate is None else rate
        self.moved_at = self.true()

    def set_right(self) -> None:
        """The network's time came."""
        self.set(self.true(), rate=1.0)
        self.synchronised = True


@dataclass
class Knowledge:
    """What a careful daemon could know of the time, kept by the judge from what was committed."""

    clock: WallClock
    require_sync: bool
    skew_s: float
    newest: float = 0.0
    """The newest time that was written under a believed clock."""
    most_ahead: float = 0.0
    """Seconds that a believed clock was ever ahead of the true time."""
    accepted: dict[object, float] = field(default_factory=dict)
    """Orders that this life accepted -> the clock's error then."""
    found: float | None = None
    """The clock's error by which this life reckons the deadlines of what it found waiting;
    None while it cannot reckon."""
    _late: bool = field(default=False, repr=False)
    """The clock was not believed at the start: each unit is reckoned at a time of its own."""

    @property
    def believable(self) -> bool:
        told = self.clock.synchronised or not self.require_sync
        return told and self.clock.now() >= self.newest - self.skew_s

    @property
    def certain(self) -> bool:
        """Nothing about the clock changed just now, under a daemon's feet."""
        return self.clock.true() - self.clock.moved_at > SETTLES_S

    def boot(self) -> None:
        self.accepted.clear()
        self._late = not self.believable
        self.found = None if self._late else self.clock.error

    def committed(self) -> None:
        if self.believable:
            self.most_ahead = max(self.most_ahead, self.clock.error)
            self.newest = max(self.newest, self.clock.now())
            if self._late:
                error = self.clock.error
                self.found = error if self.found is None else min(self.found, error)

    def error_of(self, order: object) -> float:
        """Seconds by which the order's deadline was reckoned too early."""
        if order in self.accepted:
            return self.accepted[order]
        return self.found if self.found is not None else self.clock.error


# ------------------------------------------------------------------ happenings


def step(world: World, by_s: float, lasts_s: float) -> None:
    """A person or a mad time server sets it; after a while somebody sets it right."""
    clock = world.clock
    world.judge.matrix.trouble(CLOCK)
    clock.set(clock.now() + by_s)
    world.loop.call_later(lasts_s, _right_again, world)


def drift(world: World, ppm: float, lasts_s: float) -> None:
    clock = world.clock
    world.judge.matrix.trouble(CLOCK)
    clock.set(clock.now(), rate=1.0 + ppm / 1e6)
    world.loop.call_later(lasts_s, _right_again, world)


def _right_again(world: World) -> None:
    if world.clock.synchronised:
        world.tell("clock", f"is set right, {world.clock.error:+.3f} s")
        world.clock.set_right()


def no_battery(world: World, shows: float, ntp_after_s: float) -> None:
    """From the next power cut on it shows `shows` until the network's time comes."""
    world.clock.battery_dead = (shows, ntp_after_s)


def power_came_back(world: World) -> None:
    """A boot: synchronised by nobody yet."""
    clock = world.clock
    shows, after_s = clock.battery_dead or (clock.now(), 0.5)
    clock.battery_dead = None
    clock.synchronised = False
    clock.set(shows)

    def network() -> None:
        world.tell("clock", f"the network's time comes, it was {clock.error:+.3f} s off")
        clock.set_right()

    world.loop.call_later(after_s, network)
