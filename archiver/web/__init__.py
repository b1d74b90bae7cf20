"""The archive as a hub for other machines, and its pages for people: read-only, no logic of its own."""
