"""The parts of `train.py`, in the order it uses them: arguments, the run to resume, datasets,
model, header, the tasks.
"""
