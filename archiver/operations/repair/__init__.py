"""Repair: bring back what is damaged, from every place that still has it."""
