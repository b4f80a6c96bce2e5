"""The background thread: every call is made, in order, and no error is lost."""

import threading

import pytest

from nclens.training.writer import Background


def test_calls_are_made_in_order_and_all_before_the_block_ends():
    done = []
    with Background(done.append) as background:
        for number in range(100):
            background.put(number)
    assert done == list(range(100))


def test_the_caller_continues_while_a_call_runs_and_waits_for_a_third():
    gate, begun, done = threading.Event(), threading.Event(), []

    def slow(number):
        begun.set()
        gate.wait(60)
        done.append(number)

    with Background(slow) as background:
        background.put(1)
        begun.wait(60)
        background.put(2)  # waits in the queue
        assert done == []
        third = threading.Thread(target=background.put, args=(3,))
        third.start()
        third.join(0.1)
        assert third.is_alive()
        gate.set()
        third.join(60)
        background.finish()
        assert done == [1, 2, 3]


def failing(done):
    def work(number):
        if number == 1:
            raise OSError("disk full")
        done.append(number)

    return work


@pytest.mark.parametrize("where", ["put", "finish", "end"])
def test_an_error_is_raised_in_the_loop_and_later_calls_are_dropped(where):
    done, reached = [], []
    with pytest.raises(OSError, match="disk full"), Background(failing(done)) as background:
        background.put(0)
        background.put(1)
        if where == "put":
            for number in range(2, 1000):
                background.put(number)
        if where == "finish":
            background.finish()
        reached.append("end")
    assert done == [0]
    assert reached == (["end"] if where == "end" else [])


def test_an_error_of_the_loop_comes_first_and_queued_calls_are_made():
    done = []
    with pytest.raises(ZeroDivisionError), Background(failing(done)) as background:
        background.put(0)
        raise ZeroDivisionError
    assert done == [0]
    with pytest.raises(ZeroDivisionError), Background(failing(done)) as background:
        background.put(1)
        raise ZeroDivisionError
