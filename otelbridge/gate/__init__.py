"""FILTER: keeps, drops or redacts an event. Pure functions."""
