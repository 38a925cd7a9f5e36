"""The planner: accepted as a whole, named channels kept, wear spread."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from controller.dispensing.interfaces import LaneState, Rejection, UnitJob
from controller.dispensing.planner import Shop, alternative, plan_order
from controller.model import Code, Lane, LaneHealth, Order, OrderKey, OrderLine, UnitRef


def lane(
    channel: str = "A1",
    product: int = 121,
    stock: int = 8,
    *,
    reserved: int = 0,
    health: LaneHealth = LaneHealth.OK,
    last: float | None = None,
) -> LaneState:
    number = int(channel[1:])
    return LaneState(
        lane=Lane(channel, number, product, 8, channel[0]),
        stock=stock,
        reserved=reserved,
        gone=0,
        uncertain=0,
        adjusted=0,
        loaded=stock,
        health=health,
        health_reason="",
        failures=0,
        cycles=0,
        last_cycle_at=last,
    )


def order(*lines: OrderLine) -> Order:
    return Order(OrderKey(1), "t1", 100, 190, lines)


def channels(plan: object) -> list[str]:
    assert isinstance(plan, tuple), plan
    return [placement.channel for placement in plan]


def code(plan: object) -> Code:
    assert isinstance(plan, Rejection)
    return plan.code


def test_the_fullest_lane_first_so_that_lanes_of_a_product_wear_alike() -> None:
    lanes = [lane("A1", stock=2), lane("A2", stock=3), lane("A3", product=7)]
    assert channels(plan_order(order(OrderLine(121, 4)), lanes, Shop())) == ["A2", "A1", "A2", "A1"]


def test_between_equals_the_one_that_rested_longest() -> None:
    lanes = [lane("A1", last=50.0), lane("A2", last=40.0)]
    assert channels(plan_order(order(OrderLine(121, 1)), lanes, Shop())) == ["A2"]


def test_a_named_channel_is_kept_for_the_line_that_names_it() -> None:
    lanes = [lane("A1", stock=1), lane("A2", stock=0)]
    asked = order(OrderLine(121, 1), OrderLine(121, 1, "A1"))
    assert code(plan_order(asked, lanes, Shop())) is Code.OUT_OF_STOCK
    lanes = [lane("A1", stock=5), lane("A2", stock=1)]
    asked = order(OrderLine(121, 2), OrderLine(121, 4, "A1"))
    assert channels(plan_order(asked, lanes, Shop()))[2:] == ["A1"] * 4


def test_rejections_have_their_codes() -> None:
    lanes = [lane("A1"), lane("A2", product=5, health=LaneHealth.SUSPENDED), lane("B1", product=6)]
    closed = Shop(closed={"B": "board main does not answer"})
    assert code(plan_order(order(OrderLine(9, 1)), lanes, Shop())) is Code.UNKNOWN_PRODUCT
    assert code(plan_order(order(OrderLine(121, 1, "A9")), lanes, Shop())) is Code.UNKNOWN_CHANNEL
    assert code(plan_order(order(OrderLine(5, 1, "A1")), lanes, Shop())) is Code.UNKNOWN_PRODUCT
    assert code(plan_order(order(OrderLine(121, 9)), lanes, Shop())) is Code.OUT_OF_STOCK
    assert code(plan_order(order(OrderLine(5, 1)), lanes, Shop())) is Code.OUT_OF_SERVICE
    assert code(plan_order(order(OrderLine(6, 1)), lanes, closed)) is Code.OUT_OF_SERVICE


def test_without_enforced_stock_an_empty_count_does_not_refuse() -> None:
    lanes = [lane("A1", stock=0), lane("A2", stock=1)]
    plan = plan_order(order(OrderLine(121, 3)), lanes, Shop(enforce_stock=False))
    assert channels(plan)[0] == "A2"
    assert len(channels(plan)) == 3


def test_a_unit_whose_lane_died_is_planned_elsewhere_unless_it_was_named() -> None:
    unit = UnitJob(
        UnitRef(OrderKey(1), 1),
        1,
        "t",
        121,
        "A1",
        named=False,
        record_id=None,
        issued_at=0,
        expires_at=90,
    )
    lanes = [lane("A1", health=LaneHealth.SUSPENDED), lane("A2", stock=2)]
    assert alternative(unit, lanes, Shop()) == "A2"
    assert alternative(replace(unit, named=True), lanes, Shop()) is None
    assert alternative(unit, lanes, Shop(closed={"A": "stopped"})) is None


HEALTH = st.sampled_from([LaneHealth.OK, LaneHealth.OK, LaneHealth.SUSPENDED])
LANES = st.lists(
    st.builds(
        lambda cab, num, product, stock, reserved, health: lane(
            f"{cab}{num}", product, stock, reserved=min(stock, reserved), health=health
        ),
        st.sampled_from("AB"),
        st.integers(1, 6),
        st.integers(1, 3),
        st.integers(0, 5),
        st.integers(0, 5),
        HEALTH,
    ),
    max_size=8,
    unique_by=lambda state: state.lane.channel,
)
LINES = st.lists(
    st.builds(
        OrderLine,
        st.integers(1, 4),
        st.integers(1, 4),
        st.none() | st.sampled_from(["A1", "A2", "B1", "B6"]),
        st.none() | st.integers(1, 9),
    ),
    min_size=1,
    max_size=5,
).map(tuple)


@given(lanes=LANES, lines=LINES, closed=st.sets(st.sampled_from("AB")))
def test_a_plan_is_whole_and_within_stock_or_it_is_a_rejection(lanes, lines, closed) -> None:
    shop = Shop(closed=dict.fromkeys(closed, "stopped"))
    asked = order(*lines)
    plan = plan_order(asked, lanes, shop)
    if isinstance(plan, Rejection):
        return
    states = {state.lane.channel: state for state in lanes}
    assert [p.number for p in plan] == list(range(1, asked.units + 1))
    wanted = [line for line in lines for _ in range(line.quantity)]
    for placement, line in zip(plan, wanted, strict=True):
        state = states[placement.channel]
        assert state.lane.product_id == line.product_id == placement.product_id
        assert state.health is LaneHealth.OK
        assert state.lane.cabinet not in closed
        assert line.channel in (None, placement.channel)
        assert placement.record_id == line.record_id
    for channel, state in states.items():
        assert sum(p.channel == channel for p in plan) <= state.free


@given(lanes=LANES, lines=LINES)
def test_what_fits_without_names_is_never_refused(lanes, lines) -> None:
    lines = tuple(replace(line, channel=None) for line in lines)
    for product in {line.product_id for line in lines}:
        free = sum(
            s.free for s in lanes if s.lane.product_id == product and s.health is LaneHealth.OK
        )
        if free < sum(line.quantity for line in lines if line.product_id == product):
            return
    assert isinstance(plan_order(order(*lines), lanes, Shop()), tuple)
