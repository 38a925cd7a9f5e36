# shellcheck shell=bash
# Debian packages without root, for setup.sh and broker.sh. Sourced, not run.
#
# apt works for an ordinary user when its lists, its cache and its locks are ones
# that the user may write. So nothing of the system is changed: it is only asked
# which packages it has already, so that only the missing ones are fetched.

# fetch_debian DIRECTORY PACKAGE...
# Downloads the packages, and those they need that the system lacks, and unpacks them
# into DIRECTORY. Fails, with a word on stderr, where there is no apt or no network.
# With DEBIAN_STATUS=/dev/null it is as if the system had nothing: all that they need comes.
fetch_debian() {
    local into=$1 work log
    shift
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        echo "There is no apt here to fetch $* with." >&2
        return 1
    fi
    work=$(mktemp -d)
    log=$work/log
    mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"
    # APT::Sandbox::User: as root apt would drop to a user who cannot enter our directory.
    # Debug::NoLocking: the system's lock needs root, and we write nothing that it guards.
    local apt=(apt-get -q -y
        -o "Dir::State=$work/state" -o "Dir::State::status=${DEBIAN_STATUS:-/var/lib/dpkg/status}"
        -o "Dir::Cache=$work/cache" -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1)
    # One unreachable source among several makes `update` complain and matters only if the
    # packages are there: `install` is the judge.
    "${apt[@]}" update >"$log" 2>&1 || true
    if ! "${apt[@]}" install --download-only --reinstall --no-install-recommends "$@" \
        >>"$log" 2>&1 </dev/null; then
        echo "apt could not fetch $*:" >&2
        tail -n 8 "$log" >&2
        rm -rf "$work"
        return 1
    fi
    rm -rf "$into"
    mkdir -p "$into"
    local package
    for package in "$work"/cache/archives/*.deb; do
        dpkg-deb -x "$package" "$into"
    done
    rm -rf "$work"
}
