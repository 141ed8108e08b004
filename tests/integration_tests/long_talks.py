"""Long conversations through each of the memory faces; also a program, so that another process can go on with one."""

import re
import sys
from typing import Annotated

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.store.sqlite import SqliteStore
from typing_extensions import TypedDict

from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.cost import TokenEstimator
from langchain_runtime.memory import CompactingChatMessageHistory, CompactingMemory, compact_messages
from langchain_runtime.testing import ScriptedChatModel

WINDOW = 2_000
POLICY = ContextPolicy(max_tokens=WINDOW, reserve_output=400)
FACTS = 20
SESSION = "user.7/übung"
_COUNT = TokenEstimator()


def code(turn):
    return f"{(turn + 1) * 7_919 % 100_003:05}"


def question(turn):
    """What the human says at a turn: a fact in the first ones, talk in all of them."""
    fact = f"Remember: locker {turn:03} opens with {code(turn)}. " if turn < FACTS else ""
    return f"{fact}Turn {turn}: " + " ".join(f"what about item {turn}-{number}?" for number in range(8))


@tool
def look_up(turn: int) -> str:
    """Look up what is known of a turn."""
    return f"known of turn {turn}: " + " ".join(f"entry {turn}-{number}" for number in range(40))


def check(messages):
    """A request fits the window and is a conversation that a provider accepts."""
    size = _COUNT.expected(messages, tools=[look_up])
    assert size <= WINDOW, f"a request of {size} tokens"
    calls = set()
    for message in messages:
        if isinstance(message, ToolMessage):
            assert message.tool_call_id in calls, "a tool result without its call"
            calls.remove(message.tool_call_id)
        else:
            assert not calls, "a call without its result"
        if isinstance(message, AIMessage):
            calls = {call["id"] for call in message.tool_calls}
    assert not calls, "a call without its result"


def strict_model():
    """Asks the tool at every fifth turn, and accepts no request that a provider would refuse."""

    def reply(messages):
        check(messages)
        last = messages[-1]
        turn = int(re.findall(r"Turn (\d+):", last.text)[-1]) if isinstance(last, HumanMessage) else None
        if turn is None or turn % 5:
            return "I see. " + "Let me tell you what I make of it. " * 3
        return AIMessage("", tool_calls=[{"name": "look_up", "args": {"turn": turn}, "id": f"call-{turn}"}])

    return ScriptedChatModel(script=reply)


def talking_model():
    """Never asks the tool: classic chains know none."""

    def reply(messages):
        check(messages)
        return "I see. " + "Let me tell you what I make of it. " * 3

    return ScriptedChatModel(script=reply)


def history(store):
    return CompactingChatMessageHistory(SESSION, store=store, policy=POLICY)


def with_message_history(store, folder, turns):
    """``RunnableWithMessageHistory`` over a prompt and a loop of model and tool."""
    model = strict_model()

    def answer(prompt):
        messages = prompt.to_messages()
        said = [model.invoke(messages)]
        while said[-1].tool_calls:
            said += [look_up.invoke(call) for call in said[-1].tool_calls]
            said.append(model.invoke([*messages, *said]))
        return said

    prompt = ChatPromptTemplate([("system", "You help."), MessagesPlaceholder("history"), ("human", "{question}")])
    chat = RunnableWithMessageHistory(
        prompt | RunnableLambda(answer),
        lambda session_id: CompactingChatMessageHistory(session_id, store=store, policy=POLICY),
        input_messages_key="question",
        history_messages_key="history",
    )
    for turn in turns:
        chat.invoke({"question": question(turn)}, {"configurable": {"session_id": SESSION}})
    return model


def classic_chain(store, folder, turns):
    """A ``ConversationChain`` with its own text prompt."""
    from langchain_classic.chains import ConversationChain

    model = talking_model()
    chain = ConversationChain(llm=model, memory=CompactingMemory(chat_memory=history(store)))
    for turn in turns:
        chain.invoke({"input": question(turn)})
    return model


class State(TypedDict):
    messages: Annotated[list, add_messages]


def compactor(store):
    return compact_messages(policy=POLICY, store=store, tools=[look_up])


def state_graph(store, folder, turns):
    """A ``StateGraph`` whose node asks a model behind ``compact_messages``; its own checkpointer has everything."""
    model = strict_model()
    chain = compactor(store) | model

    def agent(state: State):
        return {"messages": chain.invoke(state["messages"])}

    builder = StateGraph(State).add_node(agent).add_node("tools", ToolNode([look_up]))
    builder.add_edge(START, "agent").add_conditional_edges("agent", tools_condition).add_edge("tools", "agent")
    with SqliteSaver.from_conn_string(str(folder / "checkpoints.db")) as checkpointer:
        graph = builder.compile(checkpointer=checkpointer)
        for turn in turns:
            graph.invoke(
                {"messages": [("human", question(turn))]},
                {"configurable": {"thread_id": SESSION}},
                durability="exit",
            )
    return model


FACES = {"history": with_message_history, "classic": classic_chain, "graph": state_graph}


def talk(face, folder, turns):
    """Have a part of a conversation with new objects over a new connection.

    Returns:
        The model, with the requests that it got.
    """
    with SqliteStore.from_conn_string(str(folder / "store.db")) as store:
        return FACES[face](store, folder, turns)


if __name__ == "__main__":
    from pathlib import Path

    talk(sys.argv[1], Path(sys.argv[2]), range(int(sys.argv[3]), int(sys.argv[4])))
