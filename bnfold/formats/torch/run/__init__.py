"""Exported programs run eagerly: activations, pieces."""
