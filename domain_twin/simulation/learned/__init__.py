"""What packets taught: the correction of queueing tables, and how far predictions were off."""
