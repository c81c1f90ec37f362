"""Attacks on federated learning, as TensorFlow Federated processes over Keras models."""
