#!/usr/bin/env bash
# Boots this machine's own systemd as process 1 of a world of its own: a PID, mount, IPC, UTS
# and cgroup namespace over a copy-on-write picture of the root directory. Nothing that
# happens in it reaches the machine; it ends with the process that asked for it.
#     tests/systemd/boot.sh DIRECTORY PYTHON_PREFIX
# DIRECTORY/install is what the picture gets beside the machine's files; PYTHON_PREFIX appears
# as /opt/python, because a service may not look into home directories. Needs root.
set -euo pipefail
directory=$1 prefix=$2

if [ -z "${VC_INSIDE:-}" ]; then
    # Own cgroups, so that what systemd makes there can be taken away again with them.
    for tree in /sys/fs/cgroup /sys/fs/cgroup/*; do
        [ -e "$tree/cgroup.procs" ] || continue
        case $tree in */cpuset) continue ;; esac # wants cpus before a process may enter
        mkdir -p "$tree/vc-test-$$" && echo $$ >"$tree/vc-test-$$/cgroup.procs" || true
    done
    export VC_INSIDE=1
    exec unshare --pid --mount --ipc --uts --cgroup --fork --kill-child "$0" "$@"
fi

root=$directory/root
mount --make-rprivate /
mkdir -p "$directory/layer" "$root"
mount -t tmpfs -o size=200m tmpfs "$directory/layer"
mkdir "$directory/layer/upper" "$directory/layer/work"
mount -t overlay overlay "$root" \
    -o "lowerdir=/,upperdir=$directory/layer/upper,workdir=$directory/layer/work"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"

mkdir -p "$root/opt/python"
mount --bind "$prefix" "$root/opt/python"
cp -a "$directory/install/." "$root/"

# Of what a boot starts, the journal is enough.
for units in "$root"/usr/lib/systemd/system "$root"/etc/systemd/system; do
    rm -rf "$units"/{sysinit,local-fs,timers,paths,multi-user,graphical}.target.wants
done
mkdir "$root/usr/lib/systemd/system/sysinit.target.wants"
ln -s ../systemd-journald.service "$root/usr/lib/systemd/system/sysinit.target.wants/"

export container=other
unset VC_INSIDE
exec chroot "$root" /usr/lib/systemd/systemd --system --unit=basic.target --log-target=console
