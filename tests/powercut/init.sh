#!/bin/busybox sh
# The guest's first process: the disk, the network, the daemon. All it says goes to the
# console, which the host keeps; lines that begin with "guest:" are for it.
PATH=/usr/sbin:/usr/bin
export PATH

say() { echo "guest: $*"; }

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run

# In this order each finds the symbols that it needs.
for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci \
    virtio_blk failover net_failover virtio_net; do
    insmod "/modules/$module.ko" || say "no module $module"
done

ip link set lo up
ip addr add 10.0.2.15/24 dev eth0 # QEMU's user network: the host is 10.0.2.2
ip link set eth0 up

# The first boot finds an empty disk. 4 MiB of journal are the least that ext4 takes.
if grep -qw powercut.format /proc/cmdline; then
    /usr/sbin/mke2fs -q -t ext4 -J size=4 -E lazy_itable_init=0,lazy_journal_init=0 /dev/vda
fi
/usr/sbin/e2fsck -p /dev/vda
code=$?
# What `-p` leaves to people, nobody is here for: e2fsck exits with 4 and more.
if [ "$code" -ge 4 ]; then
    say "e2fsck -p left errors ($code)"
    /usr/sbin/e2fsck -fy /dev/vda
fi
mount -t ext4 -o barrier=1,data=ordered /dev/vda /state || say "mount failed"
mkdir -p /state/vending-controller
say "mounted, $(cat /sys/block/vda/queue/write_cache), e2fsck $code"

start='import gc, sys; gc.disable(); from controller.daemon import main; gc.enable(); sys.exit(main())'
# As systemd does it: again after a second, however it ended.
while :; do
    # While it imports, the collector finds nothing and costs a sixth of the start.
    PYTHONPATH=/opt/site python3 -S -c "$start" --config /etc/vendingd.toml
    say "vendingd ended with $?"
    sleep 1
done
