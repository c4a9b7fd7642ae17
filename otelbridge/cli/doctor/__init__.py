"""`otelbridge doctor`: its steps, one file each."""
