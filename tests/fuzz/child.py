"""One target under atheris: `python -m tests.fuzz.child NAME [libFuzzer's flags and folders]`.

A process of its own, as libFuzzer ends the process that it runs in.
"""

from __future__ import annotations

import atexit
import logging
import sys

INSTRUMENTED = ["controller", "firmware_sim", "http", "paho", "tomllib"]
"""Ours, and the parsers in Python that stand before ours."""


def main() -> None:
    import atheris  # late: only this process has it, and it must come before what it instruments

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.files import put_away
        from tests.fuzz.table import TARGETS
    logging.disable(logging.CRITICAL)
    atexit.register(put_away)
    name, *flags = sys.argv[1:]
    atheris.Setup([sys.argv[0], *flags], TARGETS[name].run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
