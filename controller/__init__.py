"""The device-side vending controller: one daemon per machine."""

__version__ = "1.0.0"
