"""Twins as a service: what partners order of a federation, what became of it, and the events about it."""
