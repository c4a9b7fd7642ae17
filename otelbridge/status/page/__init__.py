"""The status page: one HTML file, one style, one script, all served from here."""
