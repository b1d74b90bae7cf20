"""Mirror: bring one revision of a repository into the archive, and publish it as a snapshot."""
