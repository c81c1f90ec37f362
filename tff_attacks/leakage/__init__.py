"""What a curious server makes of a client's update: a protocol, and a file for each attack."""
