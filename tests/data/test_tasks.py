"""The task of a prepared data set, and the size of the head."""

from nclens.data.tasks import output_count, task_of


def test_a_manifest_without_a_task_is_a_classifications():
    assert task_of({"classes": ["a", "b"]}) == "classification"
    assert output_count({"classes": ["a", "b", "c"]}) == 3
    assert output_count({"task": "regression", "targets": ["x", "y"]}) == 2
