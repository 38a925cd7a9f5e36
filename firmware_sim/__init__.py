"""The hardware's stand-in: machines with physics, and the firmwares of their boards on top."""
