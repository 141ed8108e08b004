"""Where nobody traces nothing is imported, nothing is made, and runs come to the same."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import langchain_runtime
from langchain_runtime.callbacks.blocks import heard_by
from langchain_runtime.graph import RunGraph
from langchain_runtime.telemetry import RunTrace, trace_of
from langchain_runtime.telemetry import attributes as names

PACKAGE = Path(langchain_runtime.__file__).parent

RUN = """
import json
from langchain_runtime.graph import RunGraph
from langchain_runtime.testing import ScriptedChatModel
graph = RunGraph(model=ScriptedChatModel(script=["a reply"]))
graph.add_task("ask", prompt="{q}").add_task("use", lambda inputs: inputs["ask"].upper(), deps=["ask"])
output = graph.compile().invoke({"inputs": {"q": "what?"}}, {"configurable": {"run_id": "r"}})
results = {task: [result.output, result.usage.tokens.total] for task, result in output["results"].items()}
print(json.dumps([output["run"].state, results]))
"""
EXPECTED = ["completed", {"ask": ["a reply", 4], "use": ["A REPLY", 0]}]

PROVIDER = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
"""


def _in_a_fresh_interpreter(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_importing_the_package_and_its_telemetry_does_not_import_opentelemetry():
    loaded = _in_a_fresh_interpreter(
        "import sys, langchain_runtime, langchain_runtime.telemetry, langchain_runtime.telemetry.switches\n"
        "import langchain_runtime.telemetry.attributes\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    assert loaded == "[]"


def test_no_module_imports_opentelemetry_while_it_is_imported_itself():
    # LangSmith does, where it finds the SDK: so it cannot be seen in sys.modules who did.
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            imported = [node.module] if isinstance(node, ast.ImportFrom) else []
            imported += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in imported if name and name.startswith("opentelemetry")], path


@pytest.mark.parametrize(
    "before",
    [
        pytest.param("import sys; sys.modules['opentelemetry'] = None", id="not-installed"),
        pytest.param("", id="no-provider"),
        pytest.param("import os; os.environ['OTEL_SDK_DISABLED'] = 'true'\n" + PROVIDER, id="disabled"),
        pytest.param(PROVIDER, id="traced"),
    ],
)
def test_a_run_comes_to_the_same(before):
    assert json.loads(_in_a_fresh_interpreter(before + RUN)) == EXPECTED


def _trace():
    return trace_of("r", "graph", heard_by=heard_by)


@pytest.mark.parametrize("provider", [None, trace.NoOpTracerProvider()], ids=["none", "no-op"])
def test_without_a_real_provider_nothing_listens(monkeypatch, provider):
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    assert type(_trace()) is RunTrace
    assert not _trace().observers


def test_a_disabled_sdk_counts_as_none(monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider())
    assert type(_trace()) is RunTrace


def test_what_is_not_sampled_is_not_exported_and_ends_no_run(monkeypatch):
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ALWAYS_OFF)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    output = RunGraph().add_task("a", lambda _: 1).compile().invoke({"inputs": {}})
    assert output["results"]["a"].output == 1
    assert not exporter.get_finished_spans()


class _Broken(SpanProcessor):
    def on_start(self, span, parent_context=None):
        raise OSError("the disk is full")

    def on_end(self, span):
        raise OSError("the disk is full")


class _BreaksAtTheEnd(_Broken):
    def on_start(self, span, parent_context=None):
        pass


@pytest.mark.parametrize("processor", [_Broken, _BreaksAtTheEnd])
def test_a_processor_that_fails_ends_no_run(monkeypatch, caplog, processor):
    provider = TracerProvider()
    provider.add_span_processor(processor())
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    output = RunGraph().add_task("a", lambda _: 1).compile().invoke({"inputs": {}})
    assert output["results"]["a"].output == 1
    assert "is not complete" in caplog.text


def test_every_name_is_that_of_the_installed_conventions_or_ours():
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
    from opentelemetry.semconv.attributes import error_attributes

    modules = (gen_ai_attributes, error_attributes)
    known = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    told = {value for key, value in vars(names).items() if key.isupper() and isinstance(value, str) and "." in value}
    theirs = {value for value in told if not value.startswith(("lcr.", "https:"))}
    assert len(theirs) > 15
    assert theirs <= known


@pytest.mark.parametrize("example", ["docs/telemetry.md"])
def test_the_guides_example_shows_its_spans(example):
    import re

    (code,) = re.findall(r"```py\n(.*?)```", (PACKAGE.parent / example).read_text(encoding="utf-8"), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "invoke_workflow brief" in done.stdout
    assert "execute_tool notes" in done.stdout
