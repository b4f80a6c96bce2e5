"""One file a rule of the workflow: reads files, calls the library, writes files."""
