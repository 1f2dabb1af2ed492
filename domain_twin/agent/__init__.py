"""The twin agent: one domain's pipeline from devices to views, and its session with the broker."""
