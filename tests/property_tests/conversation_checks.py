"""What must be true of a view, whoever made it: one function for each invariant that is about one view.

``each`` has the ``case``, the ``messages`` that were to be fitted, the ``view`` or the ``error`` that came of it, and
whether the conversation ``grows``, in which a result may come when its call has left.
"""

from collections import defaultdict
from typing import NamedTuple

from langchain_core.messages import AIMessage, ChatMessage, SystemMessage, ToolMessage
from langgraph.store.memory import InMemoryStore

from langchain_runtime.context import Archive, ContextCompactor, find_handles, group_messages
from langchain_runtime.context.marks import is_note, is_our_own, is_question, mark_of
from langchain_runtime.contracts.context import ContextBundle
from langchain_runtime.contracts.errors import ContextOverflowError


def new_archive(store=None):
    return Archive(store or InMemoryStore(), ("test", "talk"))


def owners(messages):
    """For each tool result the position of its call's message; None where there is none."""
    found, maker = {}, {}
    for position, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            found[position] = maker.get(message.tool_call_id)
        elif isinstance(message, AIMessage):
            for call in (*message.tool_calls, *message.invalid_tool_calls):
                maker[call["id"]] = position
    return found


def is_system(message):
    return isinstance(message, SystemMessage) or (isinstance(message, ChatMessage) and message.role == "developer")


def origins(messages, view, archive):
    """For each message of the view its position in the conversation; None for one of our own."""
    position_of = {id(message): position for position, message in enumerate(messages)}
    found = [position_of.get(id(message)) for message in view]
    owner_of = owners(messages)
    # From the end, because of equal messages the older ones leave first; equal results are told apart by their calls.
    for place, message in reversed([*enumerate(view)]):
        if found[place] is None and not is_our_own(message):
            whole = message
            while mark_of(whole).clipped:  # an excerpt may have been cut again
                whole = archive.recall(find_handles(str(whole.content))[0])[0]
            after = max((position for position in found[:place] if position is not None), default=-1)
            before = min((position for position in found[place:] if position is not None), default=len(messages))
            fitting = [position for position in range(after + 1, before) if messages[position] == whole]
            assert fitting, f"nobody said what is under the handle of {message}"
            found[place] = max([p for p in fitting if owner_of.get(p) in found] or fitting)
    return found


def must_stay(messages, policy, *, late=frozenset()):
    """Positions of what no strategy may evict, each with its group.

    Args:
        messages: The conversation.
        policy: Pins, and says how many groups stay.
        late: Results that came when their call had left: they are in no group.
    """
    loose = {*group_messages(messages).orphans, *late}
    kept = {
        position
        for position, message in enumerate(messages)
        if is_system(message) or (message.id is not None and message.id in policy.pin)
    }
    kept = (kept | {max((p for p, m in enumerate(messages) if is_question(m)), default=-1)}) - loose
    groups = group_messages(messages).groups
    talk = [group for group in groups if not is_system(messages[group[0]])]
    last = talk[-(policy.keep_last_n or 1) :]
    return {p for group in groups if group in last or not kept.isdisjoint(group) for p in group} - loose


def assert_fits(each):
    """I1."""
    case = each.case
    if each.view is not None:
        assert case.size(each.view.messages) <= case.room
        return
    assert each.error.needed > each.error.limit == case.room
    stays = [each.messages[position] for position in sorted(must_stay(each.messages, case.policy))]
    assert case.size(stays) > case.room  # raised only where it had to be


def assert_valid(each, found):
    """I2: each result after its call, and a call in view with every result that it had."""
    shown = set(found)
    owner_of = owners(each.messages)
    for position, owner in owner_of.items():
        assert (position in shown) == (owner is not None and owner in shown), (position, owner)


def assert_untouched(each, found):
    """I3: system, pinned and newest human messages are themselves."""
    shown = {id(message) for message in each.view.messages}
    newest = max((p for p, message in enumerate(each.messages) if is_question(message)), default=None)
    for position, message in enumerate(each.messages):
        pinned = message.id is not None and message.id in each.case.policy.pin
        if isinstance(message, ToolMessage):
            pinned = pinned and position in found  # it may have come when its call had left
        if pinned or position == newest or is_system(message):
            assert id(message) in shown


def assert_kept(each, found):
    """I4: the last groups, pinned ones and the newest question's, save results that came when their call had left."""
    owner_of = owners(each.messages)
    late = {position for position, owner in owner_of.items() if owner not in found} if each.grows else frozenset()
    assert must_stay(each.messages, each.case.policy, late=late) <= set(found)


def assert_lossless(each, archive):
    """I5: what is not in view as it was comes back equal."""
    kept = defaultdict(list)
    for handle in archive.handles():
        for message in archive.recall(handle):
            kept[message.type, message.id].append(message)
    shown = {id(message) for message in each.view.messages}
    for message in each.messages:
        assert id(message) in shown or message in kept[message.type, message.id], message


def assert_handles_lead_somewhere(each, archive):
    for message in each.view.messages:
        if is_note(message) or mark_of(message).clipped:
            handles = find_handles(str(message.content))
            assert handles
            assert all(map(archive.has, handles))


def assert_ordered(each, found):
    """I6."""
    said = [position for position in found if position is not None]
    assert said == sorted(set(said))
    orphans = set(group_messages(each.messages).orphans)
    if any(not is_system(message) and p not in orphans for p, message in enumerate(each.messages)):
        assert any(not is_system(each.messages[position]) for position in said)


class View(NamedTuple):
    messages: list


class Fitted:
    """What the compactor makes of a whole conversation: a ``view`` or an ``error``."""

    grows = False

    def __init__(self, case):
        self.case = case
        self.messages = case.messages
        self.before = [*([case.system] if case.system else []), *case.messages]
        self.view = self.error = self.result = None
        self.archive = new_archive()
        try:
            self.result = self.fit(self.before)
        except ContextOverflowError as error:
            self.error = error
            return
        self.archive.put(self.result.evicted)
        self.view = View(self.result.bundle.messages[len(self.before) - len(case.messages) :])

    def fit(self, messages):
        tools = {tool.get("function", tool)["name"]: tool for tool in self.case.tools}
        bundle = ContextBundle(messages=messages, tools=tools)
        return ContextCompactor(self.case.counter).compact(bundle, self.case.policy, max_tokens=self.case.window)

    @property
    def origins(self):
        return origins(self.messages, self.view.messages, self.archive)
