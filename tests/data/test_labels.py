"""Texts and numbers become classes."""

import numpy as np
import pytest
import torch

from nclens.data.labels import as_texts, class_labels, number_classes


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (["b ", " a"], ["b", "a"]),
        (("b", "a"), ["b", "a"]),
        (np.array(["b", "a"], dtype=object), ["b", "a"]),
        (np.array(["é", "a"]), ["é", "a"]),
        (np.array(["é".encode(), b"a "]), ["é", "a"]),
        ([0, 1], None),
        ([0, "a"], None),
        (np.array([None, "a"], dtype=object), None),
        (np.array([["a"], ["b"]]), None),
        (np.array([], dtype=str), None),
        (torch.tensor([0, 1]), None),
    ],
)
def test_texts_are_known_in_whatever_holds_them(values, texts):
    found = as_texts(values)
    assert (None if found is None else found.tolist()) == texts


def test_classes_are_sorted_by_code_point_or_take_the_order_of_their_names():
    labels = {"train": np.array(["owl", "Cat", "ant", "owl"]), "test": np.array(["ant"])}
    assert number_classes(labels)[0] == ["Cat", "ant", "owl"]
    assert [part.tolist() for part in number_classes(labels)[1]] == [[2, 0, 1, 2], [1]]
    names, (train, _) = number_classes(labels, ["owl", "ant", "Cat"])
    assert (names, train.tolist()) == (["owl", "ant", "Cat"], [0, 2, 1, 0])
    names, (train,) = number_classes({"y": np.array([10, 9, -1])})
    assert (names, train.tolist(), train.dtype) == (["-1", "9", "10"], [2, 1, 0], torch.int64)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"test": np.array(["ant", "fox"])}, "test, row 2: 'fox' is none of the classes, which are ant, owl"),
        ({"test": np.array(["ant", ""])}, "test, row 2: the label is empty"),
        (
            {"test": torch.tensor([0])},
            "texts in every split, or numbers in every split, not train: texts, test: numbers",
        ),
    ],
)
def test_labels_that_are_no_class_are_named(change, words):
    with pytest.raises(ValueError, match=words):
        class_labels({"train": np.array(["owl", "ant"]), **change}, None)
