"""What each board's firmware does with its machine: one module per protocol."""
