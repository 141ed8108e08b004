"""The work order of one task attempt: a JSON envelope, so that a body can run in any process."""

from __future__ import annotations

from langchain_core.messages import AnyMessage
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from langchain_runtime.contracts.budget import ScopeName
from langchain_runtime.contracts.context import ContextPolicy
from langchain_runtime.contracts.identifiers import ModelID, RunID, TaskID
from langchain_runtime.contracts.usage import Usage


class AdoptedHold(BaseModel):
    """A reservation made at dispatch that the task's one model call adopts instead of making its own.

    Attributes:
        reservation_id: Its id in the ledger.
        lease: Fencing number for ``mark_sent``.
        nano: What was reserved, in nano units.
        tokens: What was reserved, in tokens.
        max_output_tokens: Cap that was priced; the request must carry it or a lower one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reservation_id: str
    lease: int
    nano: int
    tokens: int
    max_output_tokens: int


class LeftOut(BaseModel):
    """What compaction kept out of a prompt's view, and what the body is to do about it.

    Attributes:
        policy: Keeps the conversation within its limits from here on.
        window: Of the model, in tokens; None where nobody knows it.
        handles: Of what left the view or was clipped, in the task's archive.
        note: Id of the message in the view that stands for what left it; None where there is none.
        recall_tokens: What one answer of the ``recall`` tool has at most; None where the model is not offered it.
        summarize: Whether the view is to say in short what was left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: ContextPolicy
    window: int | None = None
    handles: tuple[str, ...] = ()
    note: str | None = None
    recall_tokens: int | None = None
    summarize: bool = False


class TaskJob(BaseModel):
    """Everything a body needs; only what was left out of its view it looks up elsewhere.

    Attributes:
        run_id: Run it belongs to.
        task_id: Task to execute.
        attempt: 1 for the first try.
        inputs: The run's inputs and one key for each dependency or its alias.
        messages: Prompt tasks: what the model receives, already compacted; None for other bodies.
        left_out: Prompt tasks: what the messages lack, where the body is to do something about it: it then makes calls
            of its own instead of the one that ``hold`` is for. None where it only answers the messages.
        model: Prompt tasks: the model to call.
        max_output_tokens: Prompt tasks: the author's cap; None for the model's.
        hold: Reservation to adopt; None when nothing was reserved.
        scopes: Budgets that every model call of the body charges.
        timeout_ms: For this attempt; None for none.
        used: What earlier attempts used.
        estimated_use: Worst case that was reserved for the attempt; None where nothing was.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: RunID
    task_id: TaskID
    attempt: int = Field(default=1, ge=1)
    inputs: dict[str, JsonValue] = Field(default_factory=dict)
    messages: list[AnyMessage] | None = None
    left_out: LeftOut | None = None
    model: ModelID | None = None
    max_output_tokens: int | None = None
    hold: AdoptedHold | None = None
    scopes: tuple[ScopeName, ...] = ()
    timeout_ms: int | None = None
    used: Usage = Usage()
    estimated_use: Usage | None = None
