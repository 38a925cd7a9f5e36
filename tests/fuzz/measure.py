"""Lines and branches that a folder of inputs reaches: `python -m tests.fuzz.measure NAME FOLDER`.

Prints one JSON object: file -> [percent of lines and branches, lines not reached]. A process
of its own, because a module's first lines count only when it is imported under the measurement.
"""

from __future__ import annotations

import io
import json
import logging
import sys
from pathlib import Path

from tests.fuzz.trace import ROOT


def main() -> None:
    import coverage  # late: installed by `make fuzz` alone

    name, folder = sys.argv[1:]
    measured = coverage.Coverage(
        branch=True, data_file=None, include=["controller/*", "firmware_sim/*"]
    )
    measured.start()
    from tests.fuzz.files import put_away
    from tests.fuzz.table import TARGETS

    logging.disable(logging.CRITICAL)
    for file in sorted(Path(folder).iterdir()):
        TARGETS[name].run(file.read_bytes())
    measured.stop()
    put_away()
    report = io.StringIO()
    found = {}
    for path in TARGETS[name].covers:
        percent = measured.report(morfs=[str(ROOT / path)], file=report)
        missing = measured.analysis2(str(ROOT / path))[3]
        found[path] = [round(percent, 1), missing]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
