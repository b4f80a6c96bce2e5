"""What counts of a module's text, and that it is kept from one start to the next."""

import json
import re

import pytest

from nclens.workflow import syntax

TEXT = '''"""A module."""

import torch
from nclens.workflow import tables as kept
from nclens.losses import ce


def loss(logits, targets):
    """A docstring."""
    if logits is None:
        raise ValueError("a text", logits)
    return ce(logits, targets) + torch.zeros(1)  # a comment


FIRST: int = 1
SECOND = THIRD = kept.read(FIRST)
'''


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache's file, in a folder of the test's own; nothing was read in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    forget()
    yield lambda: next((tmp_path / "nclens").glob("syntax-*"))
    forget()


def forget():
    syntax._kept.cache_clear()
    syntax._file.cache_clear()
    syntax._new.clear()


def test_what_a_module_defines_reads_imports_and_takes(cache):
    found = syntax.syntax_of(TEXT, "module.py")
    assert {name: reads for name, (_, reads) in found.names.items()} == {
        "loss": ["ValueError", "ce", "logits", "targets", "torch"],
        "FIRST": ["FIRST", "int"],
        "SECOND": ["FIRST", "SECOND", "THIRD", "kept"],
        "THIRD": ["FIRST", "SECOND", "THIRD", "kept"],
    }
    assert found.imports == [
        ("torch", None, None),
        ("nclens.workflow", "tables", "kept"),
        ("nclens.losses", "ce", None),
    ]
    assert found.attributes == {"kept": ["read"]}


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ('"""A docstring."""', '"""Another."""', True),
        ("# a comment", "# another", True),
        ("logits, targets) +", "logits,   targets) +", True),
        ('ValueError("a text", logits)', 'ValueError("another")', True),
        ("ce(logits, targets)", "ce(targets, logits)", False),
        ("FIRST: int = 1", "FIRST: int = 2", False),
    ],
)
def test_statements_count_and_texts_for_readers_do_not(cache, old, new, same):
    assert old in TEXT
    assert (
        syntax.syntax_of(TEXT, "module.py").whole == syntax.syntax_of(TEXT.replace(old, new), "module.py").whole
    ) == same


def test_the_next_start_takes_it_from_the_cache(cache, monkeypatch):
    first = syntax.syntax_of(TEXT, "module.py")
    syntax.keep()
    forget()
    monkeypatch.setattr(syntax, "parse", None)
    second = syntax.syntax_of(TEXT, "elsewhere.py")
    assert json.dumps(vars(first)) == json.dumps(vars(second))
    with pytest.raises(TypeError):  # another text is read
        syntax.syntax_of(TEXT + "\n", "module.py")


def kept_in(file):
    return json.loads(file.read_text().partition("\n")[2])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r"(?s).*", ""),
        (r"(?s)\n.*", "\n{"),
        (r"(?s)\n.*", "\n[]"),
        (r"(?s)\n.*", "\n" + 10**5 * "["),
        ("FIRST", "OTHER"),
    ],
)
def test_a_damaged_cache_is_made_again(cache, old, new):
    first = syntax.syntax_of(TEXT, "module.py")
    syntax.keep()
    ((key, fields),) = kept_in(cache()).items()
    cache().write_text(re.sub(old, new, cache().read_text(), count=1))
    forget()
    assert syntax.syntax_of(TEXT, "module.py") == first
    syntax.keep()
    assert kept_in(cache()) == {key: fields}


def test_a_relative_cache_folder_counts_for_none(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "folder")
    monkeypatch.setenv("HOME", str(tmp_path))
    forget()
    syntax.syntax_of(TEXT, "module.py")
    syntax.keep()
    forget()
    assert [path.parent for path in tmp_path.rglob("syntax-*")] == [tmp_path / ".cache" / "nclens"]


def test_the_texts_kept_are_the_newest(cache, monkeypatch):
    monkeypatch.setattr(syntax, "MOST_KEPT", 2)
    for number in range(4):
        syntax.syntax_of(f"X = {number}", "module.py")
    syntax.keep()
    kept = kept_in(cache())
    expected = [syntax.syntax_of(f"X = {number}", "module.py").whole for number in (2, 3)]
    assert [fields[0] for fields in kept.values()] == expected


def test_without_a_cache_it_is_read_each_time(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    forget()
    syntax.syntax_of(TEXT, "module.py")
    syntax.keep()
    forget()
