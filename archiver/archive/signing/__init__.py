"""Signatures of seals, manifests and events, in the file formats of the program minisign."""
