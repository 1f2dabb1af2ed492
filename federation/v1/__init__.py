"""The federation contract, version 1: `fedtwin.proto` and the code generated from it (`./dev proto`)."""
