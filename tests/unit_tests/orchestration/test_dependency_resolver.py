import pytest
from pydantic import ValidationError

from langchain_runtime.contracts import protocols
from langchain_runtime.contracts.errors import (
    CyclicDependencyError,
    DependencyNotFoundError,
    InvalidDAGError,
    InvalidInputError,
)
from langchain_runtime.contracts.run import DAG, DAGNode, Task
from langchain_runtime.orchestration import DependencyResolver, topological_order

resolver = DependencyResolver()


def tasks(**deps: list[str]) -> list[Task]:
    return [Task(id=task_id, deps=needed) for task_id, needed in deps.items()]


def linked(**following: list[str]) -> DAG:
    """A DAG of which only ``next`` and ``edges`` are filled in."""
    return DAG(
        nodes={task_id: DAGNode(id=task_id, next=after) for task_id, after in following.items()}, edges=following
    )


def pending(dag: DAG) -> list[int]:
    return [node.pending for node in dag.nodes.values()]


# --- build -----------------------------------------------------------------------------------------------------------


def test_resolver_satisfies_its_protocol_A1():
    assert isinstance(resolver, protocols.DependencyResolver)


def test_no_tasks_make_an_empty_dag_A2():
    assert resolver.build([]) == DAG()


def test_none_instead_of_tasks_is_refused_A3():
    with pytest.raises(InvalidInputError):
        resolver.build(None)


def test_a_single_task_has_an_empty_edge_entry_A4():
    assert resolver.build(tasks(t1=[])) == DAG(nodes={"t1": DAGNode(id="t1")}, edges={"t1": []})


def test_chain_counts_pending_dependencies_and_links_forward_A5():
    dag = resolver.build(tasks(t1=[], t2=["t1"], t3=["t2"]))
    assert pending(dag) == [0, 1, 1]
    assert {task_id: node.next for task_id, node in dag.nodes.items()} == {"t1": ["t2"], "t2": ["t3"], "t3": []}
    assert dag.edges == {"t1": ["t2"], "t2": ["t3"], "t3": []}


def test_two_dependencies_are_both_pending_A6():
    dag = resolver.build(tasks(t1=[], t2=[], t3=["t1", "t2"]))
    assert dag.nodes["t3"].pending == 2
    assert dag.nodes["t3"].deps == ["t1", "t2"]
    assert dag.edges == {"t1": ["t3"], "t2": ["t3"], "t3": []}


def test_diamond_opens_and_closes_A7():
    dag = resolver.build(tasks(t1=[], t2=["t1"], t3=["t1"], t4=["t2", "t3"]))
    assert dag.nodes["t1"].next == ["t2", "t3"]
    assert dag.nodes["t4"].pending == 2


def test_unknown_dependency_is_refused_by_name_A8():
    with pytest.raises(DependencyNotFoundError) as caught:
        resolver.build(tasks(t1=["t3"], t2=[]))
    assert (caught.value.task_id, caught.value.dependency) == ("t1", "t3")


def test_the_hint_names_the_nearest_id():
    with pytest.raises(DependencyNotFoundError) as caught:
        resolver.build(tasks(outline=[], draft=["outlin"]))
    assert caught.value.hint == "did you mean 'outline'?"


def test_the_hint_names_nothing_when_nothing_is_near():
    with pytest.raises(DependencyNotFoundError) as caught:
        resolver.build(tasks(outline=["zzz"]))
    assert caught.value.hint == "add the task, or drop the dependency"


def test_a_task_that_waits_for_itself_builds_but_is_not_valid_A9():
    dag = resolver.build(tasks(t1=["t1"]))
    assert pending(dag) == [1]
    with pytest.raises(CyclicDependencyError) as caught:
        resolver.validate(dag)
    assert caught.value.cycle == ("t1", "t1")


def test_order_of_dependencies_is_kept_A10():
    dag = resolver.build(tasks(t1=[], t2=[], t3=[], t4=["t3", "t1", "t2"]))
    assert dag.nodes["t4"].deps == ["t3", "t1", "t2"]


def test_chain_of_ten_is_valid_A11():
    dag = resolver.build(tasks(**{f"task{i}": [f"task{i - 1}"] if i else [] for i in range(10)}))
    resolver.validate(dag)
    assert pending(dag) == [0] + [1] * 9


def test_independent_tasks_wait_for_nothing_A12():
    dag = resolver.build(tasks(t1=[], t2=[], t3=[]))
    assert pending(dag) == [0, 0, 0]
    assert not any(node.next for node in dag.nodes.values())


def test_changing_a_task_later_does_not_change_its_node_A13():
    task = Task(id="t2", deps=["t1"])
    dag = resolver.build([Task(id="t1"), task])
    task.deps.append("t2")
    assert dag.nodes["t2"].deps == ["t1"]


def test_edges_and_next_do_not_share_lists():
    dag = resolver.build(tasks(t1=[], t2=["t1"]))
    dag.edges["t1"].clear()
    assert dag.nodes["t1"].next == ["t2"]


def test_duplicate_ids_are_refused_A14():
    with pytest.raises(InvalidDAGError, match="'t1' is used more than once"):
        resolver.build([Task(id="t0"), Task(id="t1"), Task(id="t1")])


def test_repeated_dependencies_count_once_A15_Z15():
    dag = resolver.build(tasks(a=[], b=[], c=["b", "a", "b"]))
    assert dag.nodes["c"].deps == ["b", "a"]
    assert dag.nodes["c"].pending == 2
    assert dag.nodes["b"].next == ["c"]


def test_next_is_in_the_order_of_the_tasks_A16():
    dag = resolver.build(tasks(z=["a"], a=[], m=["a"], b=["a"]))
    assert dag.nodes["a"].next == dag.edges["a"] == ["z", "m", "b"]


# --- validate --------------------------------------------------------------------------------------------------------


def test_empty_dag_is_valid_B1():
    resolver.validate(DAG())


def test_none_instead_of_a_dag_is_refused_B2():
    with pytest.raises(InvalidInputError):
        resolver.validate(None)


@pytest.mark.parametrize(
    "dag",
    [
        pytest.param(DAG.model_construct(nodes=None, edges={}), id="B3-nodes"),
        pytest.param(DAG.model_construct(nodes={}, edges=None), id="B4-edges"),
    ],
)
def test_dag_without_its_parts_is_refused(dag):
    with pytest.raises(InvalidDAGError, match="the DAG has no"):
        resolver.validate(dag)


@pytest.mark.parametrize(
    "deps",
    [
        pytest.param({"t1": [], "t2": ["t1"], "t3": ["t2"]}, id="B5-chain"),
        pytest.param({"t1": [], "t2": [], "t3": ["t1"], "t4": ["t1", "t2"], "t5": ["t3", "t4"]}, id="B9-mesh"),
        pytest.param({"t1": [], "t2": ["t1"], "t3": ["t1"], "t4": ["t2", "t3"]}, id="B10-diamond"),
        pytest.param({"t1": [], "t2": [], "t3": ["t1"], "t4": ["t2"], "t5": ["t3", "t4"]}, id="B12-two-roots"),
    ],
)
def test_sound_graphs_are_valid(deps):
    resolver.validate(resolver.build(tasks(**deps)))


def test_diamond_waits_for_none_one_one_and_two_B10():
    assert pending(resolver.build(tasks(t1=[], t2=["t1"], t3=["t1"], t4=["t2", "t3"]))) == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("deps", "cycle"),
    [
        pytest.param({"t1": ["t2"], "t2": ["t1"]}, "t1 -> t2 -> t1", id="B6-two"),
        pytest.param({"t1": ["t1"]}, "t1 -> t1", id="B7-self"),
        pytest.param(
            {"t1": [], "t2": [], "t3": ["t1", "t4"], "t4": ["t2", "t3"]}, "t3 -> t4 -> t3", id="B13-clean-roots"
        ),
        pytest.param(
            {"x": ["c"], "c": ["b"], "b": ["a"], "a": ["c"], "y": ["x"]}, "c -> a -> b -> c", id="B16-with-a-tail"
        ),
    ],
)
def test_the_error_prints_the_cycle_in_the_order_of_work_B16(deps, cycle):
    with pytest.raises(CyclicDependencyError) as caught:
        resolver.validate(resolver.build(tasks(**deps)))
    assert cycle in str(caught.value)
    assert caught.value.cycle == tuple(cycle.split(" -> "))


def test_cycle_is_found_when_only_next_is_filled_in_B8():
    with pytest.raises(CyclicDependencyError) as caught:
        resolver.validate(linked(t1=["t2"], t2=["t3"], t3=["t1"]))
    assert caught.value.cycle == ("t1", "t2", "t3", "t1")


def test_next_is_never_null_and_a_sink_without_it_is_valid_B11():
    with pytest.raises(ValidationError):
        DAGNode(id="t2", next=None)
    dag = resolver.build(tasks(t1=[], t2=["t1"]))
    dag.nodes["t2"] = DAGNode.model_construct(id="t2", deps=["t1"], next=None, pending=1)
    resolver.validate(dag)


def _edit(dag: DAG, **changes) -> DAG:
    dag.nodes["t2"] = dag.nodes["t2"].model_copy(update=changes)
    return dag


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "other"}, "the node under 't2' is called 'other'"),
        ({"deps": []}, r"next of 't1' is \['t2'\], but the tasks that depend on it are \[\]"),
        ({"deps": ["t1", "t1"]}, "depend on it are"),
        ({"deps": ["nobody"]}, "deps of 't2' names 'nobody', which is no node"),
        ({"next": []}, r"next of 't2' is \[\]"),
        ({"next": ["nobody"]}, "next of 't2' names 'nobody'"),
        ({"pending": 0}, "'t2' has pending 0 and depends on"),
        ({"pending": 2}, "'t2' has pending 2 and depends on"),
    ],
)
def test_nodes_that_disagree_are_refused_B14(changes, message):
    dag = resolver.build(tasks(t1=[], t2=["t1"], t3=["t2"]))
    with pytest.raises(InvalidDAGError, match=message):
        resolver.validate(_edit(dag, **changes))


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ({"t1": []}, r"edges of 't1' is \[\]"),
        ({"t1": ["t2", "t2"]}, "edges of 't1' is"),
        ({"t1": ["nobody"]}, "edges of 't1' names 'nobody'"),
        ({"t1": ["t2"], "nobody": []}, "edges name 'nobody', which is no node"),
    ],
)
def test_edges_that_disagree_with_the_nodes_are_refused_B14(edges, message):
    dag = resolver.build(tasks(t1=[], t2=["t1"]))
    with pytest.raises(InvalidDAGError, match=message):
        resolver.validate(DAG(nodes=dag.nodes, edges={"t2": [], **edges}))


def test_a_dependency_listed_twice_on_both_sides_is_refused_B14():
    nodes = {"t1": DAGNode(id="t1", next=["t2", "t2"]), "t2": DAGNode(id="t2", deps=["t1", "t1"], pending=2)}
    with pytest.raises(InvalidDAGError, match="each named once"):
        resolver.validate(DAG(nodes=nodes, edges={"t1": ["t2", "t2"], "t2": []}))


def test_chain_of_fifty_thousand_is_built_and_validated_B15():
    length = 50_000
    dag = resolver.build([Task(id=f"t{i}", deps=[f"t{i - 1}"] if i else []) for i in range(length)])
    resolver.validate(dag)
    assert topological_order(dag) == [f"t{i}" for i in range(length)]


def test_long_cycle_is_shown_in_short_and_kept_whole_B15_B16():
    length = 50_000
    dag = resolver.build([Task(id=f"t{i}", deps=[f"t{i - 1 if i else length - 1}"]) for i in range(length)])
    with pytest.raises(CyclicDependencyError) as caught:
        resolver.validate(dag)
    assert len(caught.value.cycle) == length + 1
    assert len(str(caught.value)) < 150
    assert "t0 -> t1 -> t2" in str(caught.value)
    assert "... -> t0 (50000 in the cycle)" in str(caught.value)


def test_topological_order_follows_the_tasks_where_it_can():
    dag = resolver.build(tasks(d=["b"], c=[], b=["a"], a=[]))
    assert topological_order(dag) == ["c", "a", "b", "d"]
