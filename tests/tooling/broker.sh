#!/usr/bin/env bash
# Prints the path of a usable mosquitto, or of a program that comes with it:
#     tests/tooling/broker.sh [mosquitto | mosquitto_pub | mosquitto_sub]
# In this order: from the machine; as root from the distribution, by apt; unpacked from
# the Debian packages into .cache/broker, without root. What it does, it says on stderr.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/tooling/debian.sh
. tests/tooling/debian.sh

program=${1:-mosquitto}
unpacked=.cache/broker

say() { echo "broker: $*" >&2; }

find_program() {
    PATH="$PATH:/usr/local/sbin:/usr/sbin:$PWD/$unpacked/bin" command -v "$program"
}

# Found, and all its libraries too. (Its own exit code for --help is not 0.)
usable() { [[ "$("$(find_program)" --help 2>&1)" == *"$program version"* ]]; }

# The distribution starts the broker that it installs. Nobody asked for one on port
# 1883, so it is switched off again; the tests and the demo start their own.
install_as_root() {
    say "installing mosquitto and mosquitto-clients with apt"
    local service_before=no
    [ ! -e /lib/systemd/system/mosquitto.service ] || service_before=yes
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y install mosquitto mosquitto-clients)
    { "${install[@]}" || { apt-get -q update && "${install[@]}"; }; } >/dev/null 2>&1 </dev/null || return 1
    if [ "$service_before" = no ] && [ -d /run/systemd/system ]; then
        systemctl --quiet disable --now mosquitto.service || true
    fi
}

# A wrapper for each program, which sets the way to the libraries and becomes the program.
wrap() {
    local name file
    mkdir -p "$unpacked/bin"
    for name in mosquitto mosquitto_pub mosquitto_sub; do
        file=$(find "$unpacked/root/usr" -type f -path "*bin/$name")
        cat >"$unpacked/bin/$name" <<WRAPPER
#!/bin/sh
root=\$(cd "\$(dirname "\$0")/.." && pwd)/root
for directory in "\$root"/usr/lib/*-linux-* "\$root"/lib/*-linux-*; do
    LD_LIBRARY_PATH=\$directory:\$LD_LIBRARY_PATH
done
export LD_LIBRARY_PATH
exec "\$root/${file#"$unpacked/root/"}" "\$@"
WRAPPER
        chmod +x "$unpacked/bin/$name"
    done
}

unpack() {
    say "unpacking mosquitto from the Debian packages into $unpacked"
    rm -rf "$unpacked"
    fetch_debian "$unpacked/root" mosquitto mosquitto-clients && wrap
}

if ! usable; then
    { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && install_as_root && usable; } ||
        { unpack && usable; } || {
        say "no mosquitto, and none could be fetched. Remedy: apt-get install mosquitto mosquitto-clients"
        exit 1
    }
fi
find_program
