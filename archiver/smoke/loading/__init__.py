"""Level ``load``: stored tensors become a model, whole or part by part as it runs."""
