"""From tensors to numbers: pure functions, and their streaming forms beside them."""
