"""Calls in flight, of which not all are ever told to have ended."""

from uuid import uuid4

from langchain_runtime.callbacks._open_calls import OpenCalls


def test_a_call_is_given_to_the_first_who_ends_it():
    calls, run_id = OpenCalls(), uuid4()
    assert calls.begin(run_id, "a") == "a"
    assert calls.begin(run_id, "b") == "a"
    assert (calls.get(run_id), len(calls), calls.all()) == ("a", 1, [(run_id, "a")])
    assert (calls.end(run_id), calls.end(run_id), calls.get(run_id), len(calls)) == ("a", None, None, 0)


def test_beyond_a_number_those_that_began_first_are_forgotten_and_still_counted():
    calls = OpenCalls(most=2)
    first, *others = [uuid4() for _ in range(3)]
    for run_id in (first, *others):
        calls.begin(run_id, "call")
    assert calls.end(first) is None
    assert len(calls) == 3
    assert calls.end(others[1]) == "call"
    assert len(calls) == 2
