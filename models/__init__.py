"""Keras models, one family a file, and their registry."""
