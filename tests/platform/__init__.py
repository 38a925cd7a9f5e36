"""The platform's stand-in: its parts alone, against real brokers and web servers."""
