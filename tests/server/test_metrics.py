import re
from typing import Any

import httpx2
import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from server.histograms import UnlockedHistogram
from server.metrics import Metrics, PrometheusMetrics, make_metrics
from server.settings import load_settings


def report(metrics: Metrics) -> None:
    """Every method once, with values of clients that could blow up a label."""
    for number in range(50):
        metrics.http_request(method=f"M{number}", path=f"/p{number}/x", status=404, seconds=0.01)
        metrics.graphql_operation(
            kind="query", root_field=f"f{number}", code=f"not a code {number}", seconds=0.1
        )
        metrics.http_request(method="WEBSOCKET", path="/graphql", status=3000 + number, seconds=1)
    metrics.http_request(method="POST", path="/graphql", status=200, seconds=0.01)
    metrics.graphql_operation(kind="mutation", root_field="createTask", code=None, seconds=0.1)
    metrics.graphql_operation(
        kind="mutation", root_field="createTask", code="CONFLICT", seconds=0.1
    )
    metrics.graphql_execution("answered")
    metrics.graphql_execution("first sight")
    metrics.graphql_compared("equal")
    metrics.db_write_waited(0.002)
    metrics.wakeups_lost(3)
    metrics.events_appended(7)
    metrics.subscriber_opened("sse")
    metrics.subscriber_opened("sse")
    metrics.subscriber_closed("sse")
    metrics.runs_counted({"RUNNING": 2, "QUEUED": 1, "MADE_UP": 9})
    metrics.runs_counted({"RUNNING": 1})
    metrics.run_ended("COMPLETED")


@pytest.fixture
def prometheus() -> PrometheusMetrics:
    return PrometheusMetrics(
        host="127.0.0.1",
        port=0,
        root_fields={"createTask"},
        statuses={"QUEUED", "RUNNING", "COMPLETED"},
    )


def scrape(metrics: PrometheusMetrics) -> dict[str, float]:
    text = httpx2.get(f"http://127.0.0.1:{metrics.port}/metrics", trust_env=False).text
    samples = re.findall(r"^(dragoman_[^ ]+) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in samples}


def test_everything_told_can_be_scraped_with_bounded_labels(prometheus: PrometheusMetrics) -> None:
    prometheus.start()
    try:
        report(prometheus)
        seen = scrape(prometheus)
    finally:
        prometheus.stop()
    assert seen["dragoman_events_appended_total"] == 7
    assert seen['dragoman_graphql_executions_total{how="first_sight"}'] == 1
    assert seen['dragoman_graphql_comparisons_total{how="equal"}'] == 1
    assert seen["dragoman_wakeups_lost_total"] == 3
    assert seen['dragoman_subscribers{transport="sse"}'] == 1
    assert seen['dragoman_runs{status="RUNNING"}'] == 1
    assert seen['dragoman_runs{status="QUEUED"}'] == 0
    assert seen['dragoman_runs_ended_total{status="COMPLETED"}'] == 1
    assert seen["dragoman_db_write_wait_seconds_count"] == 1
    post = '{area="graphql",method="POST",status="200"}'
    assert seen[f"dragoman_http_request_seconds_count{post}"] == 1
    assert (
        seen[
            "dragoman_graphql_operation_seconds_count"
            '{kind="mutation",outcome="CONFLICT",root_field="createTask"}'
        ]
        == 1
    )
    assert sum(name.startswith("dragoman_http_request_seconds_count") for name in seen) == 2
    assert sum(name.startswith("dragoman_graphql_operation_seconds_count") for name in seen) == 3
    assert sum(name.startswith("dragoman_websockets_ended_total") for name in seen) == 1


@pytest.mark.parametrize("created", [True, False])
def test_an_unlocked_histogram_is_told_as_the_librarys_own(
    monkeypatch: pytest.MonkeyPatch, *, created: bool
) -> None:
    monkeypatch.setattr("prometheus_client.metrics._use_created", created)
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.25)
    bounds = (0.001, 0.0025, 1, 30)
    values = [*bounds, 0, 1e-9, 31, 1e9, *(number**3 / 1e6 for number in range(400))]
    series = [("a", "b"), ("b", 'quo"ted'), ("a", "")]
    observed = [(series[number % 3], value) for number, value in enumerate(values)]
    texts = []
    for kind in (Histogram, UnlockedHistogram):
        registry = CollectorRegistry()
        made: Any = kind("t_seconds", "Time.", ("y", "x"), buckets=bounds, registry=registry)
        before = generate_latest(registry)
        for labels, value in observed:
            one = made.labels(*labels) if kind is Histogram else made.series[labels]
            one.observe(value)
        some = registry.restricted_registry(["t_seconds_sum", "t_seconds_created"])
        read = (generate_latest(registry), openmetrics(registry), generate_latest(some))
        texts.append((before, *read))
        with pytest.raises(ValueError, match="Duplicated"):
            Counter("t_seconds_count", "", registry=registry)
    assert texts[0] == texts[1]
    assert (b"_created" in texts[0][1]) == created
    assert b'le="+Inf"' in texts[0][1]


def test_off_counts_and_listens_to_nothing() -> None:
    metrics = make_metrics(load_settings())
    assert type(metrics) is Metrics
    metrics.start()
    report(metrics)
    metrics.stop()


def test_on_by_its_port() -> None:
    metrics = make_metrics(load_settings(metrics_port=9100))
    assert isinstance(metrics, PrometheusMetrics)
    assert metrics.port == 9100
    metrics.stop()


def test_two_registries_do_not_meet(prometheus: PrometheusMetrics) -> None:
    other = PrometheusMetrics(host="127.0.0.1", port=0)
    prometheus.events_appended(1)
    assert other.registry.get_sample_value("dragoman_events_appended_total") == 0


def test_a_taken_port_is_told(prometheus: PrometheusMetrics) -> None:
    prometheus.start()
    try:
        with pytest.raises(OSError, match="in use"):
            PrometheusMetrics(host="127.0.0.1", port=prometheus.port).start()
    finally:
        prometheus.stop()
