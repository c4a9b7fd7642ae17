"""What several rooms need of the network: addresses, files, deadlines, backoff. Imports no room."""
