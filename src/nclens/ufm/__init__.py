"""The unconstrained feature model: closed forms, Hessians, gradient descent, and numeric checks."""
