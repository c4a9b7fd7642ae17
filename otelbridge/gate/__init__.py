"""PASS?: keeps, drops or redacts an event. Pure functions, free when no rule is set."""
