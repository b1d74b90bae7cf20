"""archiver keeps open weights for good: mirrored, checked, compressed, audited, restored bit for bit."""

__version__ = "0.1.0"
