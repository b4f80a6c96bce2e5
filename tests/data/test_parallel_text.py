import gzip
import sys
from pathlib import Path

import pytest

pytest.importorskip("tokenizers")
from tokenizers import Tokenizer

from nclens.data.parallel_text import detokenise
from nclens.data.prepared import references_of
from nclens.data.raw import RawData
from nclens.metrics.translation import text_scores
from nclens.workflow.build.data import load_dataset
from nclens.workflow.stages.prepare import describe

MULTI30K = Path(__file__).parents[3] / "shared" / "data" / "multi30k"
SOURCE = ["the dog runs", "the dog sleeps , it sleeps", "the cat runs", "a cat (the cat) sleeps"]
TARGET = ["der Hund läuft", "der Hund schläft , er schläft", "die Katze läuft", "eine Katze (die Katze) schläft"]


def made(folder, vocabulary="word", vocabulary_size=7, suffix="", **changes):
    """The data of four lines, the last two of which are the test split too."""
    texts = {"source": SOURCE, "target": TARGET, "test_source": SOURCE[2:], "test_target": TARGET[2:]}
    texts |= {key: changes.pop(key) for key in (*texts, "val_source", "val_target") if key in changes}
    entry = {"source": "parallel_text", "vocabulary": vocabulary, "vocabulary_size": vocabulary_size}
    entry |= {"longest": None, "train_pairs": None, "split_seed": 0, "measured_tokens": 100, "min_samples": 2}
    for key, lines in texts.items():
        file = folder / f"{key}.txt{suffix}"
        content = lines if isinstance(lines, bytes) else "".join(f"{line}\n" for line in lines).encode()
        file.write_bytes(gzip.compress(content) if suffix else content)
        entry[f"{key}_path"] = file.name
    return load_dataset(entry | changes, RawData(folder))


def rows(data, split):
    return [[token for token in row if token >= 0] for row in data.parts[split][1].tolist()]


def test_lines_become_numbers_of_the_most_frequent_words(tmp_path):
    data = made(tmp_path)
    # A blank before a word is a part of it, one before punctuation a token.
    assert data.source_tokens == ["<unk>", "▁cat", "▁sleeps", "▁the", "▁", "▁dog", "▁runs"]
    assert data.classes == ["<unk>", "▁Katze", "▁schläft", "▁", "▁Hund", "▁der", "</s>"]
    assert data.end == 6
    assert data.train_inputs[:3, :8].tolist() == [
        [3, 5, 6, -1, -1, -1, -1, -1],
        [3, 5, 2, 4, 0, 0, 2, -1],
        [3, 1, 6, -1, -1, -1, -1, -1],
    ]
    assert rows(data, "train")[:3] == [[5, 4, 0, 6], [5, 4, 2, 3, 0, 0, 2, 6], [0, 1, 0, 6]]
    assert rows(data, "test") == rows(data, "train")[2:]
    assert references_of(data.tensors, "test") == TARGET[2:]
    assert references_of(data.tensors, "train") is None
    assert made(tmp_path, vocabulary_size=[5, 6]).source_tokens == data.source_tokens[:5]
    assert made(tmp_path, vocabulary_size=[5, 6]).classes == [*data.classes[:5], "</s>"]


def test_the_manifest_counts_unknown_tokens_and_has_the_tokenizers(tmp_path):
    data = made(tmp_path, val_source=2 * ["the bird sleeps"], val_target=2 * ["der Vogel schläft"])
    manifest = describe(data)
    assert manifest["unknown"] == {
        "train": {"source": 6, "target": 9},
        "test": {"source": 4, "target": 6},
        "val": {"source": 2, "target": 2},
    }
    assert manifest["unknown"]["test"]["target"] == sum(row.count(0) for row in rows(data, "test"))
    found = Tokenizer.from_str(manifest["tokenizers"]["target"]).encode(TARGET[1], add_special_tokens=False)
    assert [*found.ids, data.end] == rows(data, "train")[1]
    assert manifest["val"] == 2


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_parts_of_words_make_the_text_again(tmp_path, suffix):
    # Windows ends lines with a carriage return; a decomposed letter is one; nothing but a line feed ends a line.
    source = "\n".join([*SOURCE[:3], "\ta cat  (the cat) sleeps\r\n"]).encode("utf-8-sig")
    target = "\n".join([*TARGET[:2], "die Katze la\N{COMBINING DIAERESIS}uft", TARGET[3]]).encode()
    data = made(tmp_path, "subword", [30, 35], suffix, source=source, target=target)
    manifest = describe(data)
    assert len(data.classes) == 35
    assert [detokenise(manifest, row) for row in rows(data, "train")] == TARGET
    decoder = Tokenizer.from_str(manifest["tokenizers"]["target"])
    assert [decoder.decode(row[:-1]) for row in rows(data, "train")] == TARGET
    assert manifest["unknown"]["test"] == {"source": 0, "target": 0}
    other = made(tmp_path, "subword", [30, 35], test_source=["the ox"], test_target=["ein Ox</s>"])
    assert describe(other)["unknown"]["test"] == {"source": 1, "target": 5}
    assert rows(other, "test")[0].count(other.end) == 1
    assert detokenise(describe(other), rows(other, "test")[0]) == "ein ⁇ ⁇ ⁇ ⁇ s ⁇"


def test_the_same_text_gives_the_same_vocabulary_on_any_number_of_threads(tmp_path, monkeypatch):
    # Many equally frequent words and pairs, in an order that is not theirs.
    lines = [
        " ".join(f"{chr(97 + (7 * i + j) % 26)}{chr(97 + (5 * i + j) % 26)}x" for j in range(6)) for i in range(400)
    ]
    found = set()
    for parallel in ("false", "true", "true"):
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", parallel)
        for vocabulary in ("word", "subword"):
            data = made(tmp_path, vocabulary, 60, source=lines, target=lines[::-1])
            found.add((vocabulary, *data.facts["tokenizers"].values()))
    assert len(found) == 2
    for vocabulary, source, target in found:
        # The order of the lines is no part of the text's counts.
        assert Tokenizer.from_str(source).get_vocab_size() == 60
        assert set(Tokenizer.from_str(target).get_vocab()) <= set(Tokenizer.from_str(source).get_vocab()), vocabulary


def test_longer_training_pairs_are_left_out_and_counted(tmp_path):
    data = made(tmp_path, longest=4)
    manifest = describe(data)
    assert (manifest["train"], manifest["too_long"]) == (2, 2)
    assert rows(data, "train") == [[5, 4, 0, 6], [0, 1, 0, 6]]
    assert [len(row) for row in rows(data, "test")] == [4, 9]
    with pytest.raises(ValueError, match=r"source.txt, target.txt: longest = 2: every pair has more tokens"):
        made(tmp_path, longest=2)


def test_more_training_pairs_contain_fewer(tmp_path):
    lines = [f"a {number}" for number in range(20)]

    def chosen(pairs, seed=0):
        data = made(tmp_path, "subword", 14, source=lines, target=lines, train_pairs=pairs, split_seed=seed)
        return [detokenise(describe(data), row) for row in rows(data, "train")]

    assert len(chosen(17)) == 17
    assert set(chosen(17)) < set(chosen(19)) < set(lines)
    assert chosen(17) != chosen(17, seed=1)
    assert chosen(20) == lines
    with pytest.raises(ValueError, match=r"train_pairs = 21: the files have 20 pairs"):
        chosen(21)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": TARGET[:3]}, r"source.txt has 4 lines and \S+target.txt 3; each line needs its translation"),
        ({"test_target": ["a", "b", "c"]}, r"test_source.txt has 2 lines and \S+test_target.txt 3;"),
        ({"source": ["a", "", "b", " \t"]}, r"source.txt: line 2 is empty, and so are 1 more; leave out such lines"),
        ({"test_source": b""}, r"test_source.txt: line 1 is empty;"),
        ({"source": b"a\nb\n\xff\nd\n"}, r"source.txt: line 3 is no text in UTF-8"),
        (
            {"vocabulary_size": 8},
            r"source.txt: vocabulary_size = 8 is too large; this text supports at most 7, with words",
        ),
        (
            {"vocabulary_size": [7, 9]},
            r"target.txt: vocabulary_size = 9 is too large; this text supports at most 8, with",
        ),
        (
            {"vocabulary": "subword", "vocabulary_size": 40},
            r"vocabulary_size = 40 is too large; .* at most 39, with pairs",
        ),
        ({"vocabulary": "subword"}, r"source.txt: vocabulary_size = 7 is too small; the characters .* alone need 20"),
        ({"val_source": SOURCE, "val_target": TARGET, "val_source_path": "no.txt"}, r"no file \S+no.txt; paths are"),
    ],
)
def test_text_that_does_not_fit_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        made(tmp_path, **changes)


def test_a_damaged_file_is_refused(tmp_path):
    made(tmp_path, suffix=".gz")
    for content in (b"no gzip", (tmp_path / "source.txt.gz").read_bytes()[:-9]):
        (tmp_path / "damaged.txt.gz").write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged.txt.gz cannot be read: "):
            made(tmp_path, suffix=".gz", source_path="damaged.txt.gz")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match=r"the data need the package tokenizers: pip install 'nclens\[sequences\]'"):
        made(tmp_path)


@pytest.mark.lengthy
def test_multi30k():
    if not (MULTI30K / "train.en.gz").is_file():
        pytest.skip("no Multi30k")
    places = {"": "train", "test_": "test_2016_flickr", "val_": "val"}
    entry = {
        f"{key}{name}_path": f"{split}.{language}.gz"
        for key, split in places.items()
        for name, language in (("source", "en"), ("target", "de"))
    }
    entry |= {"source": "parallel_text", "vocabulary": "subword", "vocabulary_size": [800, 1000], "longest": 40}
    entry |= {"train_pairs": 3000, "split_seed": 0, "measured_tokens": 2000, "min_samples": 10}
    data = load_dataset(entry, RawData(MULTI30K))
    manifest = describe(data)
    assert (manifest["train"] + manifest["too_long"], manifest["test"], manifest["val"]) == (3000, 1000, 1014)
    assert (len(data.source_tokens), len(data.classes)) == (800, 1000)
    lines = references_of(data.tensors, "test")
    assert lines[1] == "Ein Boston Terrier läuft über saftig-grünes Gras vor einem weißen Zaun."
    texts = [detokenise(manifest, row) for row in rows(data, "test")]
    # All but lines with a character that the training text lacks.
    assert sum(text == line for text, line in zip(texts, lines, strict=True)) > 990
    pytest.importorskip("sacrebleu")
    assert 99 < text_scores(texts, lines)["bleu"] <= 100
    assert len(manifest["left_out"]["train"]) < 1000
