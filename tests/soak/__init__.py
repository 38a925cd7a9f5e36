"""The soak: one daemon life for a simulated day, and real daemons for some minutes."""
