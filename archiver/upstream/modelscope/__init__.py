"""ModelScope as an upstream, and what was learnt of its API."""
