"""What is fed to a model: a fixed text and a fixed picture, as tensors."""
