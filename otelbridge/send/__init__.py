"""OUT: a batch goes to the endpoint (OTLP/gRPC, OTLP/HTTP, console) and comes back as an outcome."""
