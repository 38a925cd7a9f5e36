"""The kept inputs through every target, without atheris; and that the fuzzer can find at all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controller.boards.vbp import frames as vbp
from controller.boards.vbp.framing import Decoder
from tests.fuzz import corpus, files
from tests.fuzz.draw import Draw
from tests.fuzz.streams import as_plan, reads, vbp_frame
from tests.fuzz.table import TARGETS
from tests.fuzz.trace import TooManySteps, traced

FIXED_STEPS = 100_000
STEPS_PER_BYTE = 100
"""Lines of our code that an input may take: the longest of the corpus take a third of that. A
clock would measure the machine; a loop that stands still, or turns anew for each byte of what
it holds, goes past any bound."""


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    yield
    files.put_away()


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_holds_and_ends(name: str) -> None:
    """P14: each input that ever failed, and those that reach the most, within their steps."""
    kept = corpus.read(name)
    assert len({one.data for one in kept}) == len(kept)
    for one in kept:
        most = FIXED_STEPS + STEPS_PER_BYTE * len(one.data)
        traced(TARGETS[name].run, one.data, most)


def test_every_target_has_a_corpus_and_every_corpus_a_target() -> None:
    assert {path.stem for path in corpus.CORPUS.iterdir()} == set(TARGETS)
    assert sum(path.stat().st_size for path in corpus.CORPUS.iterdir()) < 1024 * 1024


def test_a_plan_of_raw_bytes_is_those_bytes() -> None:
    wire = bytes(range(256)) * 3
    assert b"".join(reads(Draw(as_plan(wire)), vbp_frame)) == wire


FAULTY = {
    "raises for a payload": (vbp, "parse", lambda _frame: 1 // 0),
    "grows without bound": (Decoder, "_collect", lambda self, piece: self._block.extend(piece)),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_the_kept_inputs_notice_a_broken_decoder(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that holds whatever happens would be no target."""
    place, name, broken = FAULTY[fault]
    monkeypatch.setattr(place, name, broken)
    with pytest.raises((AssertionError, ZeroDivisionError)):
        _replay("vbp-frames")


def _replay(name: str) -> None:
    for one in corpus.read(name):
        TARGETS[name].run(one.data)


def test_an_endless_loop_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def stands_still(_self: Decoder, _data: bytes) -> list[vbp.Frame]:
        while vbp.ms16(1):
            pass
        return []

    monkeypatch.setattr(Decoder, "feed", stands_still)
    with pytest.raises(TooManySteps):
        traced(TARGETS["vbp-frames"].run, b"", FIXED_STEPS)
