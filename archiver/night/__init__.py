"""The nightly job: what composes operations, and needs no person to read along."""
