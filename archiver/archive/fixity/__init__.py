"""Fixity: proof that stored bytes are what their names and manifests say, and what is hit where not."""
