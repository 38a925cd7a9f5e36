"""Real power cuts: the daemon in a Linux guest, its disk behind a server that forgets."""
