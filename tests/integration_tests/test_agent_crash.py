"""kill -9 in the middle of an agent: of the calls inside one task, only those are bought that were not yet paid."""

from dataclasses import replace

import pytest
from crash_runs import Books, Execution, Order, Served, Site, carry_on
from loopback_answers import Reply, Writer
from loopback_requests import Asked

from langchain_runtime.contracts.budget import ReservationState

pytestmark = pytest.mark.crash

CALLS = 3


class Inquisitive(Writer):
    """Has its tool called until it has made so many calls, then answers."""

    def answer(self, asked: Asked) -> Reply:
        """A reply that depends on every byte of the prompt, and its bill."""
        return super().answer(replace(asked, answered=asked.prompt.count("\ntool: ") == CALLS - 1))


@pytest.mark.parametrize("mode", ["dataflow", "supersteps"])
@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("scene", ["agent of a prompt", "agent as a body", "agent in a function"])
def test_an_agent_that_dies_after_its_second_reply_buys_only_the_third(tmp_path, loopback, scene, sync, mode):
    undisturbed = run_whole(tmp_path / "undisturbed", loopback, Order(Site(tmp_path, ""), scene, sync=sync, mode=mode))
    with loopback.serving(tmp_path / "provider.jsonl", writer=Inquisitive()) as provider:
        order = Order(Site(tmp_path, provider.base_url), scene, sync=sync, mode=mode)
        with Execution(carry_on, replace(order, halts=frozenset({"use-2"}))) as first:
            assert first.wait_for("halted") == "use-2"
            first.kill()
        left = Books.of(order.site)
        assert left.finished == frozenset()
        assert left.count(ReservationState.SETTLED) == Served.by(provider).requests == {"agent": 2}

        with Execution(carry_on, replace(order, number=1)) as second:
            outputs = second.wait_for("ended")

        served = Served.by(provider)
    assert served.requests == served.different == {"agent": CALLS}
    assert outputs == undisturbed
    books = Books.of(order.site)
    assert books.count(ReservationState.SETTLED) == {"agent": CALLS}
    assert len(books.reservations) == CALLS
    assert books.spent == provider.bill


def run_whole(folder, loopback, order):
    folder.mkdir()
    with loopback.serving(folder / "provider.jsonl", writer=Inquisitive()) as provider:
        whole = replace(order, site=Site(folder, provider.base_url))
        with Execution(carry_on, whole) as only:
            return only.wait_for("ended")
