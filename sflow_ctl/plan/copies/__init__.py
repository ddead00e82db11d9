"""Copies of a task that differ in nothing but their names: one entry of a plan for all of them."""
