"""Differential privacy: of records and of clients, and what it is worth (`accounting`)."""
