"""Fixtures of the fleet's test."""

from tests.system.conftest import short_dir

__all__ = ["short_dir"]
