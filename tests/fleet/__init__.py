"""Hundreds of machines against one real broker and the platform: `make fleet`, docs/fleet.md."""
