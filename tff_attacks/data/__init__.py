"""Datasets and their partition among clients: arrays in, arrays out."""
