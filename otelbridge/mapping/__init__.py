"""TO OTLP: an event becomes an encoded LogRecord and its resource. Pure functions."""
