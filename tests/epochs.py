"""Files of several epochs, as tests make and change them."""

from nclens.workflow.epochs import read_epoch, write_epochs


def write_all(path, epochs):
    """Write a file from a mapping of epochs to tensors."""
    with write_epochs(path, list(epochs)) as put:
        for epoch, tensors in epochs.items():
            put(epoch, tensors)


def read_all(path, epochs, made_by):
    """Read epochs of a file: a mapping of epochs to tensors."""
    return {epoch: read_epoch(path, epoch, made_by)[0] for epoch in epochs}
