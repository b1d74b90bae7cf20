"""The aggregate: what lies in an archive, and the way in and out of it. Knows the format, never SQL."""
