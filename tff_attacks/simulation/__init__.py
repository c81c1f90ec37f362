"""The round loop with checkpoints, evaluation and the results folder."""
