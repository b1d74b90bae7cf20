"""Parity sidecars: making them, reading them, and making damaged files whole again from them."""
