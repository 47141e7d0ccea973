"""A model as a graph of operators, cut into parts that run alone."""
