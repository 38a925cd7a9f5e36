#!/usr/bin/env bash
# Prepares .venv with the programs in it. Quick when everything is up to date.
#
# Needs Python 3.11 or newer and a network. Works too where Debian's python3-venv is
# not installed: pip then comes from Debian's package python3-pip-whl, unpacked into
# .cache without root. Another Python: PYTHON=/path/to/python3 make setup
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/tooling/debian.sh
. tests/tooling/debian.sh

root=$PWD
venv=.venv
stamp=$venv/setup-stamp
constraints=config/constraints.txt

say() { echo "setup: $*"; }
fail() {
    echo "setup: $*" >&2
    exit 1
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
        if is_new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer found. On Debian 12 or newer: apt-get install python3"
}

# What the environment was made from. The path is part of it: the programs in .venv
# carry absolute paths, so a moved or copied directory is set up anew.
fingerprint() {
    { echo "$root"; "$python" -VV; cat pyproject.toml "$constraints"; } | sha256sum | cut -d' ' -f1
}

belongs_here() { "$venv/bin/python" -c '' 2>/dev/null && head -n 3 "$venv/bin/pip" 2>/dev/null | grep -qF "$root/$venv/bin/"; }

# Debian's wheel of pip can run from within its own zip: `python pip.whl/pip install …`.
pip_wheel() {
    local found
    for found in /usr/share/python-wheels/pip-*.whl .cache/pip/usr/share/python-wheels/pip-*.whl; do
        if [ -e "$found" ]; then
            echo "$found"
            return
        fi
    done
    return 1
}

make_venv() {
    rm -rf "$venv"
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        say "making $venv with $("$python" -V)"
        "$python" -m venv "$venv"
        return
    fi
    say "making $venv with $("$python" -V), without the system's python3-venv"
    "$python" -m venv --without-pip "$venv"
    if ! pip_wheel >/dev/null; then
        say "unpacking pip from the Debian package python3-pip-whl into .cache"
        fetch_debian .cache/pip python3-pip-whl ||
            fail "no pip for this Python. Remedy: apt-get install python3-venv, then make setup again"
    fi
    local wheel
    wheel=$(pip_wheel)
    "$venv/bin/python" "$wheel/pip" install -q --disable-pip-version-check --no-index "$wheel"
}

python=$(find_python)
wanted=$(fingerprint)
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && belongs_here; then
    say "$venv is up to date"
    exit 0
fi

belongs_here || make_venv
rm -f "$stamp"
say "installing the pinned packages of $constraints (a minute or two the first time)"
# As variables they hold for the packages that build ours as well: PIP_CONSTRAINT up to
# pip 25.2, PIP_BUILD_CONSTRAINT from there on.
PIP_CONSTRAINT=$constraints PIP_BUILD_CONSTRAINT=$constraints \
    "$venv/bin/python" -m pip install -q --disable-pip-version-check -e '.[dev]'
# The daemon's user may not write here: compiled now, or anew at each of its starts.
"$venv/bin/python" -m compileall -q controller firmware_sim
echo "$wanted" >"$stamp"
command -v "${CC:-cc}" gcc clang >/dev/null ||
    say "no C compiler: tests of the disk model will be skipped. Remedy: apt-get install gcc libc6-dev"
say "done: .venv/bin has vendingd, vendctl, firmware-sim and platform-sim"
