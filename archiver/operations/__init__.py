"""One verb a file; operations never import each other."""
