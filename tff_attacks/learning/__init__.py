"""Local training, aggregation, and the federated process that composes them."""
