"""YANG data to elements of the network model, by tables."""
