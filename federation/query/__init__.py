"""Questions in SPARQL across domains: who is asked what, what is gathered, how it is answered."""
