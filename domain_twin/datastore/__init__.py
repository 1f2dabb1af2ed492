"""What devices report, now and in the past. Owns versions and history; does no mapping."""
