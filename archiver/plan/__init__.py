"""Plans: the TOML list of what to mirror and how, read strictly, and the windows it may run in."""
