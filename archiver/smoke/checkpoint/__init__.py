"""The files and tensors of a model, in an archive or a folder; and the small ones, for libraries."""
