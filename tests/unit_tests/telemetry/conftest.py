"""A real tracer provider that keeps what it is told in memory."""

from dataclasses import dataclass

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@dataclass
class Traced:
    """What was exported."""

    exporter: InMemorySpanExporter

    @property
    def spans(self):
        return self.exporter.get_finished_spans()

    @property
    def names(self):
        return sorted(span.name for span in self.spans)

    def one(self, name):
        (span,) = self.all(name)
        return span

    def all(self, name):
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_time)

    def parent_of(self, span):
        if span.parent is None:
            return None
        return next(other.name for other in self.spans if other.context.span_id == span.parent.span_id)


@pytest.fixture
def traced(monkeypatch):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)  # it can be set only once otherwise
    yield Traced(exporter)
    provider.shutdown()


async def call(app, sync, given, config=None, **options):
    """Call a graph by its sync or its async method."""
    if sync:
        return app.invoke(given, config, **options)
    return await app.ainvoke(given, config, **options)


@pytest.fixture(name="call")
def _call():
    return call
