"""The user's own rollouts in one .npz or .safetensors file, split by rollout."""

import torch
from torch import Tensor

from nclens.data.arrays import read_own_arrays
from nclens.data.numbers import float32_rows, real_numbers, whole_numbers
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
    """Return a random split by whole rollouts; samples keep the order of the file.

    The file may have other arrays than the three that are named here, such as rewards; the log lists them.

    Args:
        raw: the folder of raw data.
        path: the file, relative to that folder unless absolute.
        sha256: the expected checksum; None skips the check.
        inputs: key of the inputs, numbers (N, F).
        outputs: key of the targets, numbers (N, n) or (N,).
        rollout: key of the rollout index of each sample, integers (N,); None treats every sample as one rollout.
        train_rollouts, test_rollouts: rollouts of each split.
        every: stride: step 0, `every`, 2 `every`, ... of each rollout is kept.
        split_seed: seed of the random choice of rollouts.
        scale_targets: units of the targets, as in `nclens.data.regression.scaled`.
        targets: columns of the targets to regress; None for all. Column i is named `{outputs}_{i}`.

    Raises:
        DownloadError: the checksum is wrong.
        ValueError: the file is missing, lacks such arrays, or has too few rollouts or columns.
    """
    file, arrays = read_own_arrays(raw, path, sha256, "rollouts")
    wanted = [inputs, outputs] if rollout is None else [inputs, outputs, rollout]
    if missing := [key for key in wanted if key not in arrays]:
        raise ValueError(f"{file} lacks {', '.join(missing)}; it has {', '.join(arrays)}")
    if others := [key for key in arrays if key not in wanted]:
        raw.say(f"{file}: {', '.join(others)} not read; `inputs`, `outputs` and `rollout` name {', '.join(wanted)}")
    rows, values = (real_numbers(arrays[key], f"{key} of {file}") for key in (inputs, outputs))
    numbers = (
        torch.arange(len(rows)) if rollout is None else whole_numbers(arrays[rollout], f"{file}: rollouts, {rollout},")
    )
    if not len(rows) == len(values) == numbers.numel() == len(numbers):
        raise ValueError(
            f"{file}: {', '.join(wanted)} must have one entry per sample, not "
            f"{', '.join(f'{key}: {arrays[key].dtype} {tuple(arrays[key].shape)}' for key in wanted)}"
        )
    chosen = list(range(values.shape[1])) if targets is None else targets
    if max(chosen) >= values.shape[1]:
        raise ValueError(
            f"{file}: `targets` names column {max(chosen)}; {outputs} has {values.shape[1]} columns, numbered from 0"
        )
    train, test = choose_rollouts(numbers, train_rollouts, test_rollouts, every, split_seed, str(file))
    rows_of_splits, facts = float32_rows({f"train {inputs}": rows[train], f"test {inputs}": rows[test]})
    return RegressionDataset(
        train_inputs=rows_of_splits[0],
        test_inputs=rows_of_splits[1],
        targets=[f"{outputs}_{column}" for column in chosen],
        source=f"rollouts of the file {path}",
        facts={"train_rollouts": train_rollouts, "test_rollouts": test_rollouts, **facts},
        **scaled(values[train][:, chosen], values[test][:, chosen], scale_targets),
    )


def choose_rollouts(numbers: Tensor, train: int, test: int, every: int, seed: int, what: str) -> tuple[Tensor, Tensor]:
    """Return the indices of the training and of the test samples, in ascending order; no rollout is in both.

    Args:
        numbers: rollout index of each sample (N,).
        train, test: number of rollouts of each split.
        every: stride: step 0, `every`, 2 `every`, ... of each rollout is kept.
        seed: seed of the random choice of rollouts.
        what: name of the data in error messages.

    Raises:
        ValueError: there are too few rollouts.
    """
    names, which, lengths = torch.unique(numbers, return_inverse=True, return_counts=True)
    if train + test > len(names):
        raise ValueError(
            f"{what} has {len(names)} rollouts, fewer than train_rollouts + test_rollouts = {train + test}"
        )
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
    # Step within the rollout: a stable sort groups the samples by rollout and keeps their order.
    arranged = torch.argsort(which, stable=True)
    step = torch.empty_like(which)
    step[arranged] = torch.arange(len(which)) - (lengths.cumsum(0) - lengths)[which[arranged]]
    kept = step % every == 0
    parts = (order[:train], order[train : train + test])
    first, second = ((torch.isin(which, part) & kept).nonzero().squeeze(1) for part in parts)
    return first, second
