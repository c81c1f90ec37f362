"""Measurements of time; see README.md."""
