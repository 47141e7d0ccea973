"""Several processes that run one program: a stage on each, or an instance."""
