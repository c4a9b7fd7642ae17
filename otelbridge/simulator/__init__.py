"""A KubeArmor and an OTLP endpoint to run against: used by `demo`, by the tests and by the benchmark."""
