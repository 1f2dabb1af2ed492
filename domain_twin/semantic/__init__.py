"""A domain's twin as a graph of meaning: what devices say as triples, what follows from it, and who may ask what."""
