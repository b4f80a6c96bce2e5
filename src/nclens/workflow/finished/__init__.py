"""What people do with a finished study: open it in Python, and take it elsewhere."""
