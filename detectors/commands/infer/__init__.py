"""The parts of `infer.py`, in the order it uses them: arguments, detector, executor, results,
summary.
"""
