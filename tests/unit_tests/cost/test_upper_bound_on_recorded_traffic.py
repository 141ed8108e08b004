import gzip
import json

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_runtime.contracts.errors import EstimationError
from langchain_runtime.cost import TokenEstimator

HIDDEN = {"image", "file", "audio", "server_state", "server_tools"}


def messages_of(request):
    """Messages and extras of a recorded request in any of the three APIs."""
    found, extras = [], []
    if request.get("system"):
        found.append(SystemMessage(_text(request["system"])))
    if request.get("instructions"):
        found.append(SystemMessage(request["instructions"]))
    entries = request.get("messages") or request.get("input") or []
    if isinstance(entries, str):
        entries = [{"role": "user", "content": entries}]
    for entry in entries:
        found.append(_message(entry))
    for key in ("tools", "functions", "response_format", "text", "tool_choice", "output_config", "output_format"):
        value = request.get(key)
        if value:
            extras.extend(value if isinstance(value, list) else [{"name": key, "value": value}])
    return found, extras


def _text(content):
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def _message(entry):
    role = entry.get("role")
    if not isinstance(entry.get("content"), (str, list)) and role != "assistant":
        return HumanMessage(json.dumps(entry, ensure_ascii=False))
    if role in ("system", "developer"):
        return SystemMessage(_text(entry["content"]))
    if role == "tool":
        return ToolMessage(_text(entry["content"]), tool_call_id=entry["tool_call_id"])
    if role == "assistant":
        extra = json.dumps(entry.get("tool_calls")) if entry.get("tool_calls") else ""
        return AIMessage(_text(entry.get("content") or "") + extra)
    if role == "user":
        return HumanMessage(_text(entry["content"]))
    return HumanMessage(json.dumps(entry, ensure_ascii=False))


def test_the_upper_bound_covers_what_was_billed_on_every_recording_with_visible_input(shared_data):
    short, seen = [], 0
    with gzip.open(shared_data / "traffic" / "recordings.jsonl.gz", "rt", errors="surrogatepass") as lines:
        for line in lines:
            case = json.loads(line)
            usage = case.get("usage_true") or {}
            billed = usage.get("billed_input_total") or usage.get("input_total")
            if not billed or HIDDEN & set(case["features"]) or case["api"] == "count_tokens":
                continue
            if "mcp_servers" in case["request"]:  # refused before it is bounded: adapters/providers.py
                continue
            messages, extras = messages_of(case["request"])
            try:
                bound = TokenEstimator().upper_bound(
                    messages, model=f"{case['provider']}:{case['model']}", tools=extras
                )
            except EstimationError:  # fails closed: nothing would have been sent
                continue
            seen += 1
            if bound < billed:
                short.append((case["id"], case["provider"], case["features"], bound, billed))
    assert seen > 200
    assert short == []
