"""Any part of any file of a snapshot, at once: proven, cached within a budget, healed where damaged."""
