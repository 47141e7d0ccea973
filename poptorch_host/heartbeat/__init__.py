"""One rank's fault ends a job of several, and honest work never does."""
