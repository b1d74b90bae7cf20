"""Level ``structure``: what headers, index and config say of a model, without looking at a value.

All but ``meta_load.py`` runs without torch.
"""
