"""Data sets, one module per source, and their batches on the device."""
