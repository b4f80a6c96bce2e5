"""Probes: measurements that run a trained network again, on other data or on single samples; one file per kind."""
