"""What the network would do: queueing analysis of a domain's network under a list of changes.

`graph` holds the arrays, `laws` what an edge does to packets, `solve` brings both together. `twin` and
`outside` feed them, from a domain's network or from files; `questions` are what people ask, `jobs` how they
wait for it, `learned` what packets taught.
"""
