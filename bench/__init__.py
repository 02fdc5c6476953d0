"""Measurements: how sharp and how fast. Speed is reported, never asserted; figures of one table come from one run.

`python -m bench` measures the planner. Nothing in the product imports this package.
"""
