"""What the network would do: queueing analysis of a domain's network under a list of changes.

`graph` holds the arrays, `laws` what an edge does to packets, `solve` brings both together; the rest feeds
them (from the twin, from files) or reads what comes out.
"""
