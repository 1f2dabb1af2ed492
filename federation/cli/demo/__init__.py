"""`fedtwin demo`: four operators, one end-to-end twin, told as a story. Owns the whole run and its end."""

from federation.cli.demo.command import add_to

__all__ = ["add_to"]
