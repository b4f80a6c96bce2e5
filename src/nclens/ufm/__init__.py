"""The unconstrained feature model: closed forms, their Hessians and their numeric checks."""
