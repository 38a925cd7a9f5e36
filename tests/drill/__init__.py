"""`make drill`: a machine with a fault that nobody tells; to be found with vendctl alone."""
