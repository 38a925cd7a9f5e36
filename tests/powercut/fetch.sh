#!/usr/bin/env bash
# Brings what the guest is made of into .cache/powercut, without root and without touching
# the system: QEMU (the machine's own, where it has one), a kernel, and a few Debian
# packages. Prints the path of qemu-system-x86_64; what it does, it says on stderr.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/tooling/debian.sh
. tests/tooling/debian.sh

place=.cache/powercut
program=qemu-system-x86_64

say() { echo "powercut: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

# fetch NAME PACKAGE...: unpacked as $place/NAME, whole or not at all.
fetch() {
    local name=$1
    shift
    [ ! -d "$place/$name" ] || return 0
    say "unpacking $* from the Debian packages into $place/$name"
    mkdir -p "$place"
    fetch_debian "$place/$name.new" "$@" || return 1
    mv "$place/$name.new" "$place/$name"
}

# A program that knows where its libraries, modules and firmware lie, and becomes QEMU.
wrap_qemu() {
    mkdir -p "$place/bin"
    cat >"$place/bin/$program" <<WRAPPER
#!/bin/sh
root=\$(cd "\$(dirname "\$0")/.." && pwd)/qemu
for directory in "\$root"/usr/lib/*-linux-* "\$root"/lib/*-linux-*; do
    LD_LIBRARY_PATH=\$directory:\$LD_LIBRARY_PATH
    [ ! -d "\$directory/qemu" ] || QEMU_MODULE_DIR=\$directory/qemu
done
export LD_LIBRARY_PATH QEMU_MODULE_DIR
exec "\$root/usr/bin/$program" -L "\$root/usr/share/qemu" -L "\$root/usr/share/seabios" "\$@"
WRAPPER
    chmod +x "$place/bin/$program"
}

find_qemu() { PATH="$PATH:$PWD/$place/bin" command -v "$program"; }
usable() { [[ "$("$(find_qemu)" --version 2>&1)" == *"emulator version"* ]]; }

[ "$(uname -m)" = x86_64 ] ||
    fail "the guest takes over the Python packages of this machine, and is made for x86_64 only"
if ! usable; then
    { fetch qemu qemu-system-x86 && wrap_qemu && usable; } ||
        fail "no $program, and none could be fetched. Remedy: apt-get install qemu-system-x86"
fi

# The guest's Python must be one that the compiled packages of .venv fit.
python=python$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
export DEBIAN_STATUS=/dev/null # the guest has nothing yet: all libraries too
fetch kernel linux-image-cloud-amd64 ||
    fail "no kernel for the guest. Remedy: a Debian source with linux-image-cloud-amd64"
fetch "$python" "$python" busybox-static e2fsprogs ||
    fail "Debian has no $python here. Remedy: PYTHON=/usr/bin/python3 make setup"
find_qemu
