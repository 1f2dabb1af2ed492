"""The models, one file a kind; each has `make(task)`."""
