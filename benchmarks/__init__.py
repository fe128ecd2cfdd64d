"""Scripts that make the result tables; each prints a table and one JSON line."""
