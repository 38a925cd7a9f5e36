"""SIGKILL at every boundary of an order: each commit, drive frame, answer, publish, ack."""
