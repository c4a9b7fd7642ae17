"""Network parts that several components share: addresses, files, deadlines, backoff. Imports no component."""
