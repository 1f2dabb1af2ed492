"""YANG modules as the twin's grammar: schema trees, leaf types, validation of whole trees."""
