"""From a scenario to an answer: what is changed, every variant of it, and the report that a person reads."""
