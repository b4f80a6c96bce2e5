"""Data sets of sequences: a source sequence and a target sequence per sample; each target token is classified."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from nclens.data.dataset import Splits

#: Behind the end of a sequence.
PADDING = -1

#: Source and target tokens of each sequence of a split.
Pairs = tuple[Sequence[Sequence[int]], Sequence[Sequence[int]]]


@dataclass(frozen=True, kw_only=True)
class Sequences(Splits):
    """A data set of sequence pairs, whose next target token is predicted from the source and the earlier ones.

    Attributes:
        train_inputs, test_inputs: int32 (N, S + T), source tokens, then target tokens, both padded with -1.
        train_targets, test_targets: int64 (N, T), the target tokens; each sequence ends with `end`.
        classes: the names of the K target tokens.
        source_tokens: the names of the source tokens.
        end: the target token that ends a sequence.
        longest_source: S.
        references: split -> a line a sequence: what its target may be, alternatives separated by tabs.
        measured_tokens: target tokens of each split that are measured, at most.
        min_samples: of these, tokens that a class needs to be measured.
        seed: of their choice.

    Raises:
        ValueError: shapes, types or values are invalid.
    """

    task: ClassVar[str] = "sequences"
    classes: list[str]
    source_tokens: list[str]
    end: int
    longest_source: int
    references: dict[str, list[str]] = field(default_factory=dict)
    measured_tokens: int = 20_000
    min_samples: int = 2
    seed: int = 0

    @classmethod
    def from_lists(cls, splits: Mapping[str, Pairs], **fields: Any) -> Self:
        """Return the data set of lists of tokens, padded; `splits` has `train`, `test` and perhaps `val`.

        `fields` are the remaining attributes, `longest_source` aside. An end is added to each target.
        """
        end = fields["end"]
        ended = {split: [[*target, end] for target in targets] for split, (_, targets) in splits.items()}
        lengths = [
            max((len(one) for split in splits for one in part(split)), default=1)
            for part in (lambda split: splits[split][0], lambda split: ended[split])
        ]
        found: dict[str, Any] = {"longest_source": lengths[0]}
        for split, (sources, _) in splits.items():
            padded = [_padded(*part) for part in zip((sources, ended[split]), lengths, strict=True)]
            found |= {f"{split}_inputs": torch.cat(padded, 1), f"{split}_targets": padded[1].long()}
        return cls(**found, **fields)

    def _check_inputs(self, split: str, inputs: Tensor) -> None:
        if inputs.dtype != torch.int32 or inputs.ndim != 2 or not 0 < self.longest_source < inputs.shape[1]:
            raise ValueError(
                f"{split} inputs must be int32 tokens (N, S + T) with S = {self.longest_source}, "
                f"not {inputs.dtype} of shape {tuple(inputs.shape)}"
            )
        _check_tokens(f"{split} sources", inputs[:, : self.longest_source], len(self.source_tokens))

    def _check_targets(self, split: str, targets: Tensor, samples: int) -> None:
        if targets.dtype != torch.int64 or targets.ndim != 2 or len(targets) != samples:
            raise ValueError(
                f"{split} targets must be int64 of shape ({samples}, T), not {targets.dtype} of shape "
                f"{tuple(targets.shape)}"
            )
        _check_tokens(f"{split} targets", targets, len(self.classes))
        if not torch.equal(self.parts[split][0][:, self.longest_source :].long(), targets):
            raise ValueError(f"{split} targets must be the target tokens of the inputs")
        ends = targets == self.end
        if not bool((ends.sum(1) == 1).all()) or not torch.equal(ends.nonzero()[:, 1], (targets >= 0).sum(1) - 1):
            raise ValueError(f"{split} targets must each have the end, token {self.end}, as their last token alone")
        if (lines := self.references.get(split)) is not None and len(lines) != samples:
            raise ValueError(f"{split} references: {len(lines)} lines for {samples} sequences")

    @property
    def statistics(self) -> tuple[list[float], list[float]]:
        """Tokens are not normalised: mean 0 and standard deviation 1."""
        return [0.0], [1.0]

    @property
    def target_facts(self) -> dict[str, Any]:
        """Names and sizes of both vocabularies, the tokens of each class and split, and what is measured.

        `measured` has the numbers of the sequences whose tokens are measured, by split. Of these, `left_out` has the
        classes of fewer than `min_samples` tokens, which no measure of collapse is of, and `left_out_tokens` how many
        these are.

        Raises:
            ValueError: in a split fewer than two classes are left.
        """
        counts = {split: self._counts(targets) for split, (_, targets) in self.parts.items()}
        measured = {split: self._measured(targets) for split, (_, targets) in self.parts.items()}
        sampled = {split: self._counts(self.parts[split][1][chosen]) for split, chosen in measured.items()}
        few = {split: (found < self.min_samples).nonzero()[:, 0] for split, found in sampled.items()}
        for split, classes in few.items():
            if len(self.classes) - len(classes) < 2:
                raise ValueError(
                    f"{split} targets: of the {int(sampled[split].sum()):,} tokens that are measured, "
                    f"{len(self.classes) - len(classes)} classes have min_samples = {self.min_samples} or more, and "
                    f"two are needed: raise `measured_tokens` ({self.measured_tokens:,}), lower `min_samples`, or take "
                    "more data"
                )
        return {
            "classes": self.classes,
            "source_tokens": self.source_tokens,
            "vocabulary": {
                "source": len(self.source_tokens),
                "target": len(self.classes),
                "end": self.end,
                "longest_source": self.longest_source,
                "longest_target": self.train_targets.shape[1],
            },
            "train_counts": counts["train"].tolist(),
            "tokens": {split: int(found.sum()) for split, found in counts.items()},
            "measured": measured,
            "min_samples": self.min_samples,
            "left_out": {split: classes.tolist() for split, classes in few.items()},
            "left_out_tokens": {split: int(sampled[split][classes].sum()) for split, classes in few.items()},
        }

    def _counts(self, targets: Tensor) -> Tensor:
        """Return the tokens of each class (K,)."""
        return targets[targets >= 0].bincount(minlength=len(self.classes))

    def _measured(self, targets: Tensor) -> list[int]:
        """Return the sequences whose tokens are measured: the first of a seeded order that fit, at least one."""
        order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(self.seed))
        fitting = (targets >= 0).sum(1)[order].cumsum(0) <= self.measured_tokens
        return order[: max(1, int(fitting.sum()))].sort().values.tolist()

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors of each split by their names in the prepared file, and what else depends on them.

        `SPLIT.references` are lines of UTF-8, `SPLIT.measured` the sequences that are measured. These and `min_samples`
        are in the manifest too; here they are a part of what the data are known by.
        """
        lines = {split: "\n".join(found) for split, found in self.references.items()}
        encoded = {f"{split}.references": bytearray(text.encode()) for split, text in lines.items()}
        found = super().tensors | {name: torch.frombuffer(text, dtype=torch.uint8) for name, text in encoded.items()}
        found |= {
            f"{split}.measured": torch.tensor(self._measured(targets)) for split, (_, targets) in self.parts.items()
        }
        return found | {"min_samples": torch.tensor(self.min_samples)}


def _padded(sequences: Sequence[Sequence[int]], length: int) -> Tensor:
    """Return (N, length), int32, padded with -1."""
    rows = [[*one, *[PADDING] * (length - len(one))] for one in sequences]
    return torch.tensor(rows, dtype=torch.int32).view(len(rows), length)


def _check_tokens(what: str, tokens: Tensor, size: int) -> None:
    """Refuse tokens (N, T) that are none of a vocabulary, padding before a token, and empty sequences."""
    if not len(tokens):
        raise ValueError(f"{what}: there must be at least one sequence")
    if not int(tokens.min()) >= PADDING or not int(tokens.max()) < size:
        raise ValueError(f"{what}: tokens must be in 0..{size - 1}, or -1 behind the end; they go from {tokens.min()}")
    seen = tokens >= 0
    if not bool(seen[:, 0].all()) or bool((~seen[:, :-1] & seen[:, 1:]).any()):
        raise ValueError(f"{what}: each sequence must have a token or more, and padding behind the last alone")
