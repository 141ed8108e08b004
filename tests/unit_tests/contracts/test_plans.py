"""One plan, two drivers: whatever it says is done the same way, blocking or not."""

import asyncio

import pytest

from langchain_runtime.contracts.plans import Step, acarry_out, carry_out


class Store:
    """Has a method and its twin, and remembers what was asked of them."""

    def __init__(self, error=None):
        self.asked, self.error = [], error

    def fetch(self, key, *, times=1):
        self.asked.append((key, times))
        if self.error is not None and len(self.asked) == 1:
            raise self.error
        return key * times

    async def afetch(self, key, *, times=1):
        await asyncio.sleep(0)
        return self.fetch(key, times=times)


@pytest.fixture(params=[carry_out, lambda plan: asyncio.run(acarry_out(plan))], ids=["sync", "async"])
def do(request):
    return request.param


def test_a_plan_gets_the_result_of_each_step_and_returns_its_own(do):
    store = Store()

    def plan():
        first = yield Step(store, "fetch", ("a",))
        second = yield Step(store, "fetch", (first,), {"times": 3})
        return first, second

    assert do(plan()) == ("a", "aaa")
    assert store.asked == [("a", 1), ("a", 3)]


def test_a_plan_without_steps_is_carried_out_too(do):
    def plan():
        return "done"
        yield

    assert do(plan()) == "done"


def test_a_plan_may_contain_another(do):
    store = Store()

    def inner(key):
        return (yield Step(store, "fetch", (key,)))

    def outer():
        return (yield from inner("a")) + (yield from inner("b"))

    assert do(outer()) == "ab"


def test_a_plan_may_go_on_after_an_error(do):
    store = Store(error=OSError("away"))

    def plan():
        try:
            yield Step(store, "fetch", ("a",))
        except OSError:
            return (yield Step(store, "fetch", ("b",)))

    assert do(plan()) == "b"


def test_an_error_that_the_plan_does_not_want_comes_out_after_its_last_step(do):
    store = Store(error=OSError("away"))

    def plan():
        try:
            yield Step(store, "fetch", ("a",))
        finally:
            yield Step(store, "fetch", ("clean up",))

    with pytest.raises(OSError, match="away"):
        do(plan())
    assert [key for key, _ in store.asked] == ["a", "clean up"]


async def test_a_cancelled_plan_cleans_up_before_it_ends():
    class Slow(Store):
        async def await_for_ever(self):
            started.set()
            await asyncio.Event().wait()

    store, started = Slow(), asyncio.Event()

    def plan():
        try:
            yield Step(store, "wait_for_ever")
        except asyncio.CancelledError:
            yield Step(store, "fetch", ("clean up",))
            raise

    task = asyncio.create_task(acarry_out(plan()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.asked == [("clean up", 1)]
