"""What joins domains: the broker, the contract it speaks with agents, and the command line."""
