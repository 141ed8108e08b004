from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from langchain_runtime.contracts import protocols
from langchain_runtime.orchestration import QueueManager


def drain(queue: QueueManager) -> list[str]:
    return list(iter(queue.dequeue, None))


def filled(*task_ids: str) -> QueueManager:
    queue = QueueManager()
    for task_id in task_ids:
        queue.enqueue(task_id)
    return queue


def test_queue_satisfies_its_protocol():
    assert isinstance(QueueManager(), protocols.QueueManager)


def test_length_grows_with_each_task_E1():
    queue = QueueManager()
    queue.enqueue("t1")
    assert len(queue) == 1
    queue.enqueue("t2")
    assert len(queue) == 2


def test_empty_queue_gives_none_E2():
    assert QueueManager().dequeue() is None


def test_two_tasks_come_out_in_the_order_they_came_E3():
    queue = filled("t1", "t2")
    assert [queue.dequeue(), queue.dequeue(), queue.dequeue()] == ["t1", "t2", None]


def test_equally_urgent_tasks_are_first_in_first_out_E4():
    assert drain(filled("c", "a", "d", "b")) == ["c", "a", "d", "b"]


def test_length_follows_both_directions_E5():
    queue = filled("a", "b", "c")
    assert len(queue) == 3
    queue.dequeue()
    assert len(queue) == 2


def test_hundred_threads_lose_and_invent_nothing_E6():
    queue, gate = QueueManager(), Barrier(100)

    def add(number: int) -> None:
        gate.wait()
        queue.enqueue(f"t{number}")

    def take(_: int) -> str | None:
        gate.wait()
        return queue.dequeue()

    with ThreadPoolExecutor(100) as pool:
        list(pool.map(add, range(100)))
        assert len(queue) == 100
        assert set(pool.map(take, range(100))) == {f"t{i}" for i in range(100)}
    assert len(queue) == 0


def test_mixed_traffic_keeps_the_books_E7():
    queue, gate = QueueManager(), Barrier(100)

    def use(number: int) -> str | None:
        gate.wait()
        return queue.enqueue(f"t{number}") if number % 2 else queue.dequeue()

    with ThreadPoolExecutor(100) as pool:
        taken = [task_id for task_id in pool.map(use, range(100)) if task_id]
    assert sorted(taken + drain(queue)) == sorted(f"t{i}" for i in range(1, 100, 2))


def test_empty_id_is_a_task_like_others_E8():
    queue = filled("")
    assert queue.dequeue() == ""
    assert queue.dequeue() is None


def test_an_id_may_wait_twice_E9():
    assert drain(filled("a", "a")) == ["a", "a"]


def test_more_urgent_tasks_leave_first():
    queue = QueueManager()
    for task_id, urgency in {
        "none": (),
        "low": (1.0,),
        "lower": (0.5, 9.0),
        "high": (2.0,),
        "high-and-more": (2.0, -3.0),
        "negative": (-1.0,),
    }.items():
        queue.enqueue(task_id, urgency)
    assert drain(queue) == ["high-and-more", "high", "low", "lower", "negative", "none"]
