"""The heart, the drivers and the emulated boards in one process, in virtual time."""
