"""Where bytes lie: the Store protocol and the local filesystem."""
