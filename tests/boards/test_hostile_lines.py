"""Nothing that comes over a wire stops a driver or grows without bound (P14, on the line)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.boards.vbp import frames as vbp
from controller.boards.vbp.driver import VbpBoard
from controller.boards.xy import frames as xy
from controller.boards.xy.driver import XyBoard
from controller.boards.xy.options import XyOptions
from tests.boards.hostile import survives
from tests.boards.scripted_vbp import ScriptedVbp
from tests.boards.scripted_xy import ScriptedXy
from tests.boards.support import CLOCK, MemoryPort

FEW = settings(max_examples=40, deadline=None)

any_vbp = st.builds(
    lambda kind, seq, payload: vbp.encode_frame(vbp.Frame(kind, seq, payload)),
    st.sampled_from([0x40, 0x40, 0x81, 0x82, 0x90, 0x91, 0x93, 0xA0, 0xE0, 0x01, 0x77]),
    st.integers(0, 0xFFFF),
    st.binary(max_size=40),
)
any_event = st.builds(
    lambda number, kind, rest: vbp.encode_frame(
        vbp.Frame(0x40, 0, number.to_bytes(4, "big") + bytes((kind,)) + rest)
    ),
    st.integers(0, 2**32 - 1),
    st.integers(0, 255),
    st.one_of(st.binary(min_size=1, max_size=1), st.binary(max_size=12)),
)
any_xy = st.builds(
    lambda command, pack_no, text: xy.encode_frame(xy.Frame(command, pack_no, text)),
    st.sampled_from([0x04, 0x04, 0x11, 0x52, 0x54, 0x71, 0x31, 0x02, 0x06, 0x99]),
    st.integers(1, 255),
    st.binary(max_size=40),
)
bare_xy = st.sampled_from([xy.encode_frame(xy.POLL), xy.encode_frame(xy.ACK)])


@FEW
@given(st.lists(st.one_of(st.binary(max_size=80), any_vbp, any_event), max_size=30))
def test_vbp_survives_anything(said: list[bytes]) -> None:
    peer = ScriptedVbp()
    port = MemoryPort(peer)
    survives(VbpBoard("main", port, CLOCK), port, said)
    assert len(peer.started) <= 1


@FEW
@given(st.lists(st.one_of(st.binary(max_size=80), any_xy, bare_xy), max_size=30))
def test_xy_survives_anything(said: list[bytes]) -> None:
    peer = ScriptedXy()
    port = MemoryPort(peer)
    survives(XyBoard("side", port, CLOCK, XyOptions()), port, said)
    drives = [frame for frame in port.to_board if frame[2:3] == b"\x06"]
    assert len(drives) <= 1
