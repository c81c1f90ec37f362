"""What a malicious client does: the protocol (`attack`), then one file an attack."""
