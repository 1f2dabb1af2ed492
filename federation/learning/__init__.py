"""Learning across domains: rounds, how contributions are joined, and the models that come of it."""
