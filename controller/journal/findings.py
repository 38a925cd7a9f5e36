"""A `Finding` as JSON in the database and back.

Fields that the class gains later keep their default when an older row is read;
fields that it lost are ignored.
"""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from controller.journal.transaction import to_json
from controller.model import Evidence, Finding, Outcome, Reason

NAMES = tuple(field.name for field in fields(Finding))


def encode(finding: Finding) -> str:
    return to_json({name: getattr(finding, name) for name in NAMES})


def decode(text: str) -> Finding:
    """Raises ValueError or KeyError when the text is not a finding of ours."""
    stored: dict[str, Any] = {k: v for k, v in json.loads(text).items() if k in NAMES}
    stored["outcome"] = Outcome(stored["outcome"])
    stored["reason"] = None if stored["reason"] is None else Reason(stored["reason"])
    stored["evidence"] = Evidence(stored["evidence"])
    return Finding(**stored)
