"""Figures, drawn from result files alone."""

import matplotlib

matplotlib.use("Agg")
