"""One file per command: parse, call one operation, render."""
