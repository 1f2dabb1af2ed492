"""The federation's HTTP face: SPARQL first, services for partners later; a client of the broker."""
