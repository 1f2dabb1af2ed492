"""The federation's HTTP face: SPARQL first, services for partners later; it reaches the broker as a client only."""
