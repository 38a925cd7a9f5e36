"""The real daemon, broker and emulator as processes, held against the promises."""
