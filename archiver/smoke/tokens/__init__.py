"""Level ``tokenizer``: text to ids and back, special tokens, the chat template."""
