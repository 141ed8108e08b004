"""Which task runs when: dependencies, urgency, slots, retries and deadlines, decided without I/O or a clock.

``ParallelExecutor`` turns events into actions; a driver elsewhere carries them out.
"""

from langchain_runtime.orchestration.dependency_resolver import DependencyResolver, topological_order
from langchain_runtime.orchestration.executor_protocol import (
    Abort,
    Action,
    Ask,
    Begin,
    BodyStopped,
    Cancel,
    Deferred,
    Drain,
    Ended,
    Event,
    Finish,
    Grew,
    ModelPaused,
    NewTask,
    Released,
    Skip,
    Sleep,
    Start,
    Suspended,
    Throttled,
    Tick,
    ToppedUp,
)
from langchain_runtime.orchestration.forecast import Attempt, Forecast, Obstacle, Span, simulate
from langchain_runtime.orchestration.parallel_executor import ParallelExecutor
from langchain_runtime.orchestration.parallelism import Enough, enough_slots, peak
from langchain_runtime.orchestration.past_runs import Durations, PastRuns, durations_of, mean_items, typical_seconds
from langchain_runtime.orchestration.queue_manager import QueueManager
from langchain_runtime.orchestration.scheduler import Scheduler
from langchain_runtime.orchestration.urgency import CriticalPath
from langchain_runtime.orchestration.waiting_rooms import DEFERRED_POLL_SECONDS

__all__ = [
    "DEFERRED_POLL_SECONDS",
    "Abort",
    "Action",
    "Ask",
    "Attempt",
    "Begin",
    "BodyStopped",
    "Cancel",
    "CriticalPath",
    "Deferred",
    "DependencyResolver",
    "Drain",
    "Durations",
    "Ended",
    "Enough",
    "Event",
    "Finish",
    "Forecast",
    "Grew",
    "ModelPaused",
    "NewTask",
    "Obstacle",
    "ParallelExecutor",
    "PastRuns",
    "QueueManager",
    "Released",
    "Scheduler",
    "Skip",
    "Sleep",
    "Span",
    "Start",
    "Suspended",
    "Throttled",
    "Tick",
    "ToppedUp",
    "durations_of",
    "enough_slots",
    "mean_items",
    "peak",
    "simulate",
    "topological_order",
    "typical_seconds",
]
