"""The real daemon in a simulated world: virtual time, a broker, boards, disks and hands of ours."""
