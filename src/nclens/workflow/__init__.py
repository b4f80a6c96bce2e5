"""The workflow: all that knows results, runs and jobs."""

from nclens._torchvision import repair_on_import

# Before any file of the user's is imported, by whatever part of the workflow: it may import torchvision itself.
repair_on_import()
