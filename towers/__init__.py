"""Batch -> vector: the user and item towers, their item table, losses and optimisers."""
