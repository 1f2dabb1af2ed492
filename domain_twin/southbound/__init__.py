"""Sessions to devices. Owns protocols and reconnection; knows nothing of what the data means."""
