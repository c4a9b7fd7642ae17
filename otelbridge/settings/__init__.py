"""What the operator asked for: flags, environment and file become one checked tree."""
