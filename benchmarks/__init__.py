"""Measurements of the crawler beside what one would use otherwise; `python -m benchmarks`
runs them.
"""
