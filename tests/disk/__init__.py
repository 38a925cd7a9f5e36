"""A disk for simulations: loses what was not synced, fills up, fails. See layer.py."""
