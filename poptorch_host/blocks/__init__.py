"""Blocks of a model, and the stages, phases and IPUs that strategies give them."""
