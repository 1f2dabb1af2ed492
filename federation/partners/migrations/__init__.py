"""Steps between versions of the partners' tables, taken by `federation.partners.schema.upgrade`."""
