"""A plain folder outside of any archive: what lies in it, and whether that is what a manifest says."""
