"""Status: what is proven, copied and protected, and what falls short."""
