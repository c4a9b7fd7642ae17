"""Generated from proto/kubearmor.proto by `make proto`; not edited by hand."""
