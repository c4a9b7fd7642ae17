"""Settings: flags, environment and file become one checked tree."""
