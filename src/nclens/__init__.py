"""nclens: what a loss does to a network's representation, seen through neural collapse."""

__version__ = "0.1.0"
