"""What the two ends of a session sign: the `typ` of each statement (RFC 7515 4.1.9)."""

WELCOME = "fedtwin-welcome"
VIEW_DELTA = "fedtwin-view-delta"
ANSWER = "fedtwin-answer"
ON_BEHALF_OF = "fedtwin-on-behalf-of"
