"""Level ``tokenizer``: its files agree with each other, with the config and with the libraries."""
