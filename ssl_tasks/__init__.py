"""Batch -> scalar: the self-supervised tasks that join the retrieval loss."""
