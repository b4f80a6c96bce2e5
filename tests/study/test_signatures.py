"""The parameters of a user's function: what Python would refuse is refused, and nothing else."""

import ast
import inspect

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens.study import ConfigError, load_study
from nclens.study.signatures import fault_of, signature_of

SOURCES = (
    "def f(): pass",
    "def f(a): pass",
    "def f(a, b): pass",
    "def f(a, b, c, d=1): pass",
    "def f(a, /, b, *, c): pass",
    "def f(a, b=1, *, c=2, d): pass",
    "def f(*a): pass",
    "def f(a, *b, c): pass",
    "def f(a, **b): pass",
    "def f(*a, **b): pass",
    "class f:\n    def __init__(self, a, b, c=3): pass",
    "def f(): pass\ndef f(a, b): pass",
)


@given(
    st.sampled_from(SOURCES),
    st.integers(0, 3),
    st.lists(st.sampled_from("abcdx"), unique=True, max_size=3),
)
@settings(max_examples=300)
def test_what_python_would_refuse_is_refused_and_nothing_else(source, count, names):
    parameters = dict.fromkeys(names, 0)
    found = signature_of(ast.parse(source), "f")
    fault = fault_of(found, ["x", "y", "z"][:count], parameters)
    space = {}
    exec(source, space)
    try:
        inspect.signature(space["f"]).bind(*range(count), **parameters)
    except TypeError:
        assert fault
    else:
        assert fault is None


@pytest.mark.parametrize(
    "source",
    [
        "import functools\n@functools.cache\ndef f(a): pass",
        "class f: pass",
        "class f(metaclass=M):\n    def __init__(self): pass",
        "from dataclasses import dataclass\n@dataclass\nclass f:\n    a: int",
        "f = lambda a: a",
    ],
)
def test_what_the_source_does_not_tell_is_left_to_python(source):
    assert signature_of(ast.parse(source), "f") is None


@pytest.mark.parametrize(
    ("source", "parameters", "message"),
    [
        (
            "def loss(logits, targets, gamma, alpha=1): pass",
            {"gama": 2},
            r"parameters: mine:loss \(.*mine\.py\) has no parameter `gama` \(did you mean `gamma`\?\); "
            "allowed: gamma, alpha",
        ),
        ("def loss(logits, targets, gamma): pass", {}, "needs the parameters `gamma`; allowed: gamma"),
        ("def loss(logits): pass", {}, r"is called with 2 positional arguments \(logits, targets\), but takes 1"),
        ("def loss(logits, targets): pass", {"targets": 1}, r"gets `targets` from us .*; as a parameter allowed: none"),
    ],
)
def test_the_message_names_what_is_wrong_and_what_is_allowed(raw_study, tmp_path, source, parameters, message):
    (tmp_path / "mine.py").write_text(source)
    raw_study["losses"]["ls"] = {"function": "mine:loss", "parameters": parameters}
    with pytest.raises(ConfigError, match=rf"losses\.ls: {message}" if message[0] == "p" else message):
        load_study(raw_study, [tmp_path])
