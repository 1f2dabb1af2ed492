"""What both ends of the federation contract share. A leaf: both sides import it, it imports neither."""
