"""The machine that loses its power: QEMU with the project in it, started and killed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.powercut import image
from tests.system.process import Process

MEMORY_MIB = 512
KERNEL_WORDS = (
    *("console=ttyS0", "quiet", "panic=-1"),
    # What follows only saves time under software emulation.
    *("mitigations=off", "nokaslr", "lsm=", "audit=0", "init_on_alloc=0", "cryptomgr.notests"),
)
PROBE_S = 5.0
"""A kernel under KVM has given up looking for its root by then; see `kvm_works`."""


def fetch_qemu() -> str:
    """The program's path; kernel and packages for the guest lie in .cache when this returns.

    Raises subprocess.CalledProcessError; the script has said why on stderr.
    """
    script = image.ROOT / "tests/powercut/fetch.sh"
    return subprocess.run([script], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _bare(qemu: str, accelerator: str) -> list[str]:
    # Under KVM `max` shows the guest what only a host may set; there the host's own will do.
    cpu = "max" if accelerator == "tcg" else "host"
    return [
        *(qemu, "-accel", accelerator, "-cpu", cpu, "-m", str(MEMORY_MIB)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-kernel", str(image.kernel())),
    ]


def kvm_works(qemu: str) -> bool:
    """Whether a kernel comes up under KVM here: a /dev/kvm that opens is not enough, in a
    nested machine it may hang. Without a root file system the kernel panics, and QEMU ends."""
    command = [*_bare(qemu, "kvm"), "-append", "panic=-1"]
    try:
        done = subprocess.run(command, check=False, timeout=PROBE_S, capture_output=True)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


class Guest(Process):
    """`kill` is the power cut of its processor and memory; its disk is another's affair."""

    def __init__(
        self,
        qemu: str,
        accelerator: str,
        *,
        initramfs: Path,
        disk: Path,
        board_port: int,
        directory: Path,
    ) -> None:
        """`disk`: the NBD server's socket; `board_port`: the board's TCP port on the host."""
        self.console = directory / "console.log"
        self._with = [
            *_bare(qemu, accelerator),
            *("-initrd", str(initramfs)),
            # Writes and flushes of the guest reach the server as they are.
            *("-drive", f"file=nbd+unix:///?socket={disk},format=raw,if=virtio,cache=none"),
            *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="),
            *("-chardev", f"file,id=console,path={self.console},append=on"),
            *("-serial", "chardev:console"),
            *("-chardev", f"socket,id=board,host=127.0.0.1,port={board_port},reconnect=1"),
            *("-serial", "chardev:board"),
        ]
        super().__init__(self._with, directory / "qemu.log")

    def boot(self, *, format_disk: bool = False) -> None:
        """Does not wait. `format_disk`: its disk is empty."""
        append = " ".join([*KERNEL_WORDS, *(["powercut.format"] if format_disk else [])])
        self.command = [*self._with, "-append", append]
        self.start()

    def said(self) -> list[str]:
        """All lines of all boots on its console."""
        if not self.console.exists():
            return []
        return self.console.read_text(encoding="utf-8", errors="replace").splitlines()
