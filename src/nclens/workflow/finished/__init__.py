"""What people do with a finished study: open it, export it, archive it."""
