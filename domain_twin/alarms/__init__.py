"""Alarms kept over time: their life cycle, and where they are stored."""
