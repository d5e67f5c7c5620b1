"""Measurements of the crawler and of its alternatives, side by side.

`python -m benchmarks` runs them.
"""
