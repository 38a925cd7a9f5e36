#!/usr/bin/env bash
# Installs what fuzzing needs into .venv, beside what setup put there: atheris and coverage.
# `make test` needs neither.
set -euo pipefail
cd "$(dirname "$0")/../.."

python=.venv/bin/python
if "$python" -c 'import atheris, coverage' 2>/dev/null; then
    exit 0
fi
echo "fuzz: installing atheris and coverage into .venv"
# Only ready wheels: built from source atheris wants a clang of its own and half an hour.
if ! PIP_CONSTRAINT=config/constraints.txt "$python" -m pip install -q \
    --disable-pip-version-check --only-binary atheris -e '.[fuzz]'; then
    cat >&2 <<END
fuzz: atheris cannot be installed for $("$python" -V) on $(uname -m); pip says above why.
It has ready wheels for Python 3.11 to 3.13 on x86_64. Another machine can replay the
corpus all the same: make test ARGS="tests/fuzz"
END
    exit 1
fi
