"""The main job in about a minute, on emulated boards: `make demo`."""
