"""What surrounds a run: recipes, folders, the console, signals, timing."""
