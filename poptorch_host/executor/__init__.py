"""`PoplarExecutor`, for inference and training, and its parts."""
