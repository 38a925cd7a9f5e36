"""Hundreds of machines against one real broker: `make fleet`, docs/fleet.md."""
