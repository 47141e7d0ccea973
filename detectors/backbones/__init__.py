"""Feature extractors; each file imports what it needs, this one nothing."""
