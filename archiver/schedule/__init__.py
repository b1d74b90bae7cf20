"""The nightly job on a schedule: a systemd service with its timer, or a line for cron."""
