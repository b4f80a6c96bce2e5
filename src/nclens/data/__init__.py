"""Data sources, one small file a kind, and batches on the device."""
