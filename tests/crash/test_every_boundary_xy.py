"""P1, P2, P5, P8 to P11 at every boundary of an order, on a board that can only be listened to."""

from __future__ import annotations

import pytest

from tests.crash.every_boundary import XY, hold_at_every_boundary

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(420)]


def test_killed_at_every_boundary_of_an_order() -> None:
    hold_at_every_boundary(XY)
