"""The workflow: all that knows results, runs and jobs."""
