"""Learning in one domain: what it trains on, the models, and what of a contribution may leave it."""
