"""The last word on a cycle of a test vend: its outcome beside what a technician judges by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from controller.dispensing.eye import EyeTrace
from controller.lane_verdict import facts_of, verdict_of
from controller.model import Finding
from controller.service import shapes


def outcome_step(
    head: Mapping[str, Any],
    finding: Finding,
    cycle_id: int | None,
    times: Sequence[Mapping[str, Any]],
    eye: EyeTrace | None,
) -> Mapping[str, Any]:
    """`shapes.VendStep`; `times` are the lane's newest motor times, this cycle's among them.

    `eye` counts only where a look was answered: a board that only watches shows nothing.
    """
    seen = eye if eye is not None and eye.changes else None
    dark = seen is not None and seen.level == "blocked"
    facts, measured = facts_of(finding, cycle_id, times, eye_left_blocked=dark)
    return {
        "event": "outcome",
        **head,
        "cycle_id": cycle_id or 0,
        "outcome": finding.outcome.value,
        "reason": finding.reason.value if finding.reason else None,
        "evidence": finding.evidence.value,
        "drops": finding.drops,
        "verdict": verdict_of(facts).value,
        "run_ms": facts.run_ms,
        "measured": measured,
        "usual": asdict(facts.usual) if facts.usual else None,
        "peak_ma": finding.raw.get("peak_ma") or None,
        "eye": _eye_view(seen) if seen else None,
    }


def _eye_view(eye: EyeTrace) -> shapes.EyeOfCycle:
    return {
        "level": eye.level,
        "over_ms": eye.over_ms,
        "changes": list(eye.changes),
        "pulses": [{"at_ms": each.at_ms, "width_ms": each.width_ms} for each in eye.pulses],
    }
