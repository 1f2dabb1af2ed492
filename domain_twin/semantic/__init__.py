"""A domain's twin as a graph of meaning: what devices say, what follows from it, who may ask what."""
