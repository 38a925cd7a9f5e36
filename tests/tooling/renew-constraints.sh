#!/usr/bin/env bash
# Writes config/constraints.txt anew: the newest packages that pyproject.toml allows.
set -euo pipefail
cd "$(dirname "$0")/../.."

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
python3 -m venv "$fresh"
# atheris has wheels for few Pythons: renew on one of them (3.11 on amd64).
"$fresh/bin/pip" install -q --disable-pip-version-check setuptools -e '.[dev,fuzz]'
list=$(
    sed -n '/^#/p' config/constraints.txt
    "$fresh/bin/pip" freeze --all --exclude-editable --exclude pip | sort -f
)
echo "$list" >config/constraints.txt
tests/tooling/setup.sh
