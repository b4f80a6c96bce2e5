"""Error rates of sequences found by a decoder: edits per reference token, and the share of wrong sequences."""

from collections.abc import Sequence

from nclens._torchvision import import_torchvision

#: A first character with room for more than a million tokens behind it.
_FIRST = 0x10000


def error_rates(hypotheses: Sequence[Sequence[int]], references: Sequence[Sequence[Sequence[int]]]) -> dict[str, float]:
    """Return the token and the sequence error rate of hypotheses, each with one or more accepted references.

    token_error_rate = sum_i d_i / sum_i n_i, with d_i the least edit distance (insertions, deletions, substitutions) of
    hypothesis i to one of its references and n_i the length of that reference, of equally near ones the longer. Of
    phonemes this is the phoneme error rate. It is at least 0 and may exceed 1.

    sequence_error_rate: share of hypotheses that are none of their references, in [0, 1]; of words spelt in phonemes,
    the word error rate.

    Args:
        hypotheses: N sequences of tokens, without their ends.
        references: of each hypothesis its references, sequences of tokens.

    Raises:
        ValueError: the numbers of hypotheses and references differ, there are none, a hypothesis has no reference, or a
            reference has no token.
    """
    if len(hypotheses) != len(references) or not hypotheses:
        raise ValueError(
            f"{len(hypotheses)} hypotheses and {len(references)} lists of references: must be as many, 1 up"
        )
    edits = tokens = wrong = 0
    for number, (hypothesis, accepted) in enumerate(zip(hypotheses, references, strict=True)):
        if not accepted or not all(len(reference) for reference in accepted):
            raise ValueError(f"hypothesis {number}: must have references, each of 1 token or more")
        distance, negative = min((_edits(hypothesis, reference), -len(reference)) for reference in accepted)
        edits, tokens, wrong = edits + distance, tokens - negative, wrong + (distance > 0)
    return {"token_error_rate": edits / tokens, "sequence_error_rate": wrong / len(hypotheses)}


def _edits(hypothesis: Sequence[int], reference: Sequence[int]) -> int:
    """Return the edit distance of two sequences of tokens."""
    if not hypothesis:
        return len(reference)
    import_torchvision()
    from torchmetrics.functional.text import edit_distance

    return int(edit_distance(_text(hypothesis), _text(reference), reduction="sum"))


def _text(tokens: Sequence[int]) -> str:
    """Return a character for each token."""
    return "".join(chr(_FIRST + token) for token in tokens)
