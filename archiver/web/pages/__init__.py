"""The pages for people: what is held, what it is worth, and where it came from. They change nothing."""
