"""What the bridge says about itself: one typed happening becomes its log line, its metric and its span."""
