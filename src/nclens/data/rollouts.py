"""Rollouts of the user's: inputs and targets step by step, in one .npz file, split by rollout."""

import torch
from torch import Tensor

from nclens.data.arrays import read_own_arrays
from nclens.data.raw import RawData
from nclens.data.regression import RegressionDataset, Scaling, scaled


def load(
    raw: RawData,
    path: str,
    sha256: str | None,
    inputs: str,
    outputs: str,
    rollout: str | None,
    train_rollouts: int,
    test_rollouts: int,
    every: int,
    split_seed: int,
    scale_targets: Scaling,
    targets: list[int] | None,
) -> RegressionDataset:
    """Return whole rollouts for training and others for testing, chosen by chance; samples stay in the file's order.

    Args:
        raw: the folder of raw data.
        path: the file, below that folder unless absolute.
        sha256: the checksum that the file must have; None for any.
        inputs: key of the inputs, numbers (N, F).
        outputs: key of the targets, numbers (N, n) or (N,).
        rollout: key of each sample's rollout, whole numbers (N,); None: every sample is a rollout of its own.
        train_rollouts, test_rollouts: rollouts of each split.
        every: keep one step in so many of each rollout, the first one first.
        split_seed: seed of the choice.
        scale_targets: units of the targets.
        targets: columns of the targets to regress; None for all. They are named by the key and their number.

    Raises:
        DownloadError: the checksum is wrong.
        ValueError: the file is not there, does not hold such arrays, or has too few rollouts or columns.
    """
    file, arrays = read_own_arrays(raw, path, sha256, "rollouts")
    wanted = [inputs, outputs] if rollout is None else [inputs, outputs, rollout]
    if missing := [key for key in wanted if key not in arrays]:
        raise ValueError(f"{file} lacks {', '.join(missing)}; it has {', '.join(arrays)}")
    rows, values = _numbers(arrays[inputs], f"{inputs} of {file}"), _numbers(arrays[outputs], f"{outputs} of {file}")
    numbers = torch.arange(len(rows)) if rollout is None else arrays[rollout]
    if numbers.is_floating_point() or not len(rows) == len(values) == numbers.numel() == len(numbers):
        raise ValueError(
            f"{file}: {', '.join(wanted)} must have one entry a sample, and rollouts be whole numbers, not "
            f"{', '.join(f'{key}: {arrays[key].dtype} {tuple(arrays[key].shape)}' for key in wanted)}"
        )
    chosen = list(range(values.shape[1])) if targets is None else targets
    if max(chosen) >= values.shape[1]:
        raise ValueError(f"{file}: `targets` names column {max(chosen)}; {outputs} has {values.shape[1]}, from 0")
    train, test = choose_rollouts(numbers, train_rollouts, test_rollouts, every, split_seed, str(file))
    return RegressionDataset(
        train_inputs=rows[train].float(),
        test_inputs=rows[test].float(),
        targets=[f"{outputs}_{column}" for column in chosen],
        source=f"rollouts of the file {path}",
        facts={"train_rollouts": train_rollouts, "test_rollouts": test_rollouts},
        **scaled(values[train][:, chosen], values[test][:, chosen], scale_targets),
    )


def choose_rollouts(numbers: Tensor, train: int, test: int, every: int, seed: int, what: str) -> tuple[Tensor, Tensor]:
    """Return the indices of the training and of the test samples, each ascending; no rollout is in both.

    Args:
        numbers: (N,), each sample's rollout.
        train, test: how many rollouts.
        every: keep the first of so many samples of each rollout, in their order.
        seed: of the choice.
        what: the data's name in a message.

    Raises:
        ValueError: there are fewer rollouts.
    """
    names, which, lengths = torch.unique(numbers, return_inverse=True, return_counts=True)
    if train + test > len(names):
        raise ValueError(f"{what} has {len(names)} rollouts; train_rollouts + test_rollouts = {train + test} are more")
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
    # The step within its rollout: a stable sort lays the rollouts one after the other, each in its own order.
    arranged = torch.argsort(which, stable=True)
    step = torch.empty_like(which)
    step[arranged] = torch.arange(len(which)) - (lengths.cumsum(0) - lengths)[which[arranged]]
    kept = step % every == 0
    parts = (order[:train], order[train : train + test])
    first, second = ((torch.isin(which, part) & kept).nonzero().squeeze(1) for part in parts)
    return first, second


def _numbers(values: Tensor, what: str) -> Tensor:
    """Return numbers (N, F) or (N,) as float64 (N, F)."""
    if values.ndim not in (1, 2) or values.is_complex() or values.dtype == torch.bool:
        raise ValueError(f"{what} must be numbers (N, F) or (N,), not {values.dtype} of shape {tuple(values.shape)}")
    return values.double().reshape(len(values), -1)
