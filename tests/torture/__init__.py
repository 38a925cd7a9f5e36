"""SIGKILL of the real daemon at random instants under load, and the verdict."""
