"""Level ``golden``: numbers that were recorded once, and the same again."""
