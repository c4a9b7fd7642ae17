"""What the bridge says about itself: typed events become log lines, metrics and spans."""
