"""Safetensors and GGUF files: which bytes are which tensor, and where a file is cut into segments."""
