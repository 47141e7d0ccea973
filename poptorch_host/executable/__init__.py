"""What compiling found, in files: for which model, inputs and options."""
