"""The archive as a hub for other machines, and its pages for people. Read-only; knows nothing that is not asked of the rooms below."""
