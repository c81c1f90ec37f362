"""Measures of attacks and of models: pure functions."""
