"""Networks and results of other tools, and questions about networks in files: no agent is needed."""
