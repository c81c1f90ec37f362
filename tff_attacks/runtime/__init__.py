"""Where TFF computations run."""
