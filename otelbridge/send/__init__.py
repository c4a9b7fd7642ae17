"""EXPORT: sends batches to the endpoint (OTLP/gRPC, OTLP/HTTP, console) and settles them by its answers."""
