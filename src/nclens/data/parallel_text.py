"""Text and its translation: line-aligned files, whose tokens are words or parts of words."""

import gzip
import unicodedata
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from nclens.data.raw import RawData
from nclens.data.sequences import Pairs, Sequences

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: The token, 0 in both languages, of what a vocabulary lacks.
UNKNOWN = "<unk>"
#: The target token behind a line's last, K - 1. No text has it: a tokenizer separates its punctuation.
END = "</s>"
#: What an unknown token is in a text, as in SentencePiece: one token for BLEU.
UNREADABLE = "\N{DOUBLE QUESTION MARK}"
#: What a blank is in a token.
BLANK = "\N{LOWER ONE EIGHTH BLOCK}"
#: How often a word, or a pair of neighbouring parts, must occur in the training text to become a token.
OCCURRENCES = 2

Languages = Literal["source", "target"]


def load(
    raw: RawData,
    source_path: str,
    target_path: str,
    test_source_path: str,
    test_target_path: str,
    vocabulary: Literal["word", "subword"],
    vocabulary_size: int | Sequence[int],
    longest: int | None,
    train_pairs: int | None,
    split_seed: int,
    measured_tokens: int,
    min_samples: int,
    val_source_path: str | None = None,
    val_target_path: str | None = None,
) -> Sequences:
    """Return the pairs of lines of two files a split, each line a sequence of tokens of its language's vocabulary.

    A vocabulary is made from the training text: the most frequent words, equally frequent ones in the order of their
    code points, or byte-pair encoding by the package `tokenizers`. Words are separated at blanks and at punctuation; a
    blank before a word is a part of it, so that tokens make a text again (`detokenise`). The same text gives the same
    vocabulary. The references are the lines of test and validation split.

    The manifest has the tokenizers as JSON (`tokenizers`), the unknown tokens of each split and language (`unknown`)
    and the number of training pairs that are left out for their length (`too_long`).

    Args:
        raw: the folder of raw data, to which paths are relative unless absolute.
        source_path, target_path: the training text, UTF-8, perhaps compressed (.gz), a sequence a line.
        test_source_path, test_target_path, val_source_path, val_target_path: of the other splits; the last two may be
            None.
        vocabulary: what tokens are.
        vocabulary_size: tokens of each language, or of the source and of the target: `UNKNOWN` and, of the target,
            `END` among them, so that the latter is K.
        longest: training pairs with more tokens in one language, `END` aside, are left out; None keeps all. Pairs of
            the other splits are kept.
        train_pairs: training pairs, drawn at random before the vocabulary is made; None takes all. More of them contain
            fewer of the same seed.
        split_seed: of this choice, and of what is measured.
        measured_tokens, min_samples: as `Sequences`.

    Raises:
        ValueError: the package `tokenizers` is not installed; a file is missing, cannot be read or has an empty line;
            two files differ in their lines; the training text is too small for its vocabulary, or has no pair that is
            short enough.
    """
    places: dict[str, dict[Languages, str]] = {
        "train": {"source": source_path, "target": target_path},
        "test": {"source": test_source_path, "target": test_target_path},
    }
    if val_source_path is not None and val_target_path is not None:
        places["val"] = {"source": val_source_path, "target": val_target_path}
    texts = {
        split: _aligned({language: raw.place(path) for language, path in files.items()})
        for split, files in places.items()
    }
    if train_pairs is not None:
        texts["train"] = _drawn(texts["train"], train_pairs, split_seed)
    sizes = [vocabulary_size] * 2 if isinstance(vocabulary_size, int) else vocabulary_size
    tokenizers = {
        language: _tokenizer(
            lines, vocabulary, size - ends, f"{places['train'][language]}: vocabulary_size = {size:,}", ends
        )
        for (language, lines), size, ends in zip(texts["train"].items(), sizes, (0, 1), strict=True)
    }
    tokens = {
        split: {language: _tokens(tokenizers[language], lines) for language, lines in text.items()}
        for split, text in texts.items()
    }
    too_long = set() if longest is None else _longer(tokens["train"].values(), longest)
    if len(too_long) == len(tokens["train"]["source"]):
        raise ValueError(f"{source_path}, {target_path}: longest = {longest}: every pair has more tokens")
    tokens["train"] = {
        language: [line for number, line in enumerate(lines) if number not in too_long]
        for language, lines in tokens["train"].items()
    }
    splits: dict[str, Pairs] = {split: (found["source"], found["target"]) for split, found in tokens.items()}
    return Sequences.from_lists(
        splits,
        classes=[*_names(tokenizers["target"]), END],
        source_tokens=_names(tokenizers["source"]),
        end=sizes[1] - 1,
        references={split: text["target"] for split, text in texts.items() if split != "train"},
        measured_tokens=measured_tokens,
        min_samples=min_samples,
        seed=split_seed,
        source=f"lines of the files {source_path} and {target_path}",
        facts={
            "tokenizers": {language: tokenizer.to_str() for language, tokenizer in tokenizers.items()},
            "unknown": {
                split: {language: sum(line.count(0) for line in lines) for language, lines in found.items()}
                for split, found in tokens.items()
            },
            "too_long": len(too_long),
        },
    )


def detokenise(manifest: Mapping[str, Any], tokens: Iterable[int]) -> str:
    """Return the text of target tokens, up to the end if they have it; an unknown token becomes `UNREADABLE`.

    Args:
        manifest: of data made by `load`.
        tokens: target tokens, in 0..K-1.
    """
    names, end = manifest["classes"], manifest["vocabulary"]["end"]
    found: list[str] = []
    for token in tokens:
        if token == end:
            break
        found.append(names[token] if names[token] != UNKNOWN else f" {UNREADABLE} ")
    return " ".join("".join(found).replace(BLANK, " ").split())


def _aligned(files: Mapping[Languages, Path]) -> dict[Languages, list[str]]:
    """Return the lines of each language."""
    lines = {language: _lines(file) for language, file in files.items()}
    first, second = files.values()
    if (one := len(lines["source"])) != (other := len(lines["target"])):
        raise ValueError(f"{first} has {one:,} lines and {second} {other:,}; each line needs its translation")
    return lines


def _lines(file: Path) -> list[str]:
    """Return the lines of a text with single blanks, in Unicode's form NFC."""
    if not file.is_file():
        raise ValueError(f"parallel_text: no file {file.resolve()}; paths are relative to `data_dir` unless absolute")
    try:
        with gzip.open(file, "rb") if file.suffix.lower() == ".gz" else open(file, "rb") as opened:
            content = opened.read()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{file}: line {line:,} is no text in UTF-8") from error
    # Not `splitlines`, which also ends a line at characters that other programs leave in it.
    lines = text.removesuffix("\n").split("\n")
    # A tab would separate alternatives in references.
    found = [" ".join(unicodedata.normalize("NFC", line).split()) for line in lines]
    if empty := [number for number, line in enumerate(found, start=1) if not line]:
        more = f", and so are {len(empty) - 1:,} more" if len(empty) > 1 else ""
        raise ValueError(f"{file}: line {empty[0]:,} is empty{more}; leave out such lines and those aligned with them")
    return found


def _drawn(text: Mapping[Languages, list[str]], pairs: int, seed: int) -> dict[Languages, list[str]]:
    """Return the first pairs of a seeded order, in the order of the files."""
    known = len(text["source"])
    if pairs > known:
        raise ValueError(f"train_pairs = {pairs:,}: the files have {known:,} pairs")
    order = torch.randperm(known, generator=torch.Generator().manual_seed(seed))
    chosen = order[:pairs].sort().values.tolist()
    return {language: [lines[number] for number in chosen] for language, lines in text.items()}


def _tokenizer(lines: Sequence[str], vocabulary: str, size: int, what: str, ends: int) -> "Tokenizer":
    """Return the tokenizer of a vocabulary of `size` tokens, made from a text; errors start with `what`.

    `ends` tokens that are none of the tokenizer's are counted in messages.
    """
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    except ImportError:
        raise ValueError("the data need the package tokenizers: pip install 'nclens[sequences]'") from None
    options: dict[str, Any] = {
        "vocab_size": size,
        "min_frequency": OCCURRENCES,
        "special_tokens": [UNKNOWN],
        "show_progress": False,
    }
    words = vocabulary == "word"
    made = Tokenizer(models.WordLevel(unk_token=UNKNOWN) if words else models.BPE(unk_token=UNKNOWN))
    trainer = trainers.WordLevelTrainer(**options) if words else trainers.BpeTrainer(**options)
    blanks = pre_tokenizers.Metaspace(replacement=BLANK, prepend_scheme="always")
    made.pre_tokenizer = pre_tokenizers.Sequence([blanks, pre_tokenizers.Punctuation("isolated")])
    made.decoder = decoders.Metaspace(replacement=BLANK, prepend_scheme="always")
    made.train_from_iterator(lines, trainer)
    found = made.get_vocab_size()
    if found < size:
        unit = "words" if words else "pairs of parts"
        raise ValueError(
            f"{what} is too large; this text supports at most {found + ends:,}, with {unit} that occur {OCCURRENCES} "
            "times or more"
        )
    if found > size:
        raise ValueError(f"{what} is too small; the characters of this text alone need {found + ends:,}")
    return made


def _tokens(tokenizer: "Tokenizer", lines: Sequence[str]) -> list[list[int]]:
    return [one.ids for one in tokenizer.encode_batch(list(lines), add_special_tokens=False)]


def _names(tokenizer: "Tokenizer") -> list[str]:
    """Return the tokens by number."""
    names = tokenizer.get_vocab()
    return sorted(names, key=names.__getitem__)


def _longer(languages: Iterable[Sequence[Sequence[int]]], longest: int) -> set[int]:
    """Return the numbers of pairs with more tokens in one language."""
    return {number for lines in languages for number, line in enumerate(lines) if len(line) > longest}
