"""Histograms of what every request does, told to Prometheus like the library's own.

Those take a lock and walk through their buckets at each observation. Here one thread counts into a
list, and the library gets the sums when somebody asks.
"""

import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from math import inf

from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector


class Series:
    """What was observed under one set of labels."""

    __slots__ = ("_bounds", "counts", "created", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * len(bounds)
        self.total = 0.0
        self.created = time.time()

    def observe(self, value: float) -> None:
        """Count a value. For one thread."""
        self.total += value
        self.counts[bisect_left(self._bounds, value)] += 1


class _AllSeries(dict[tuple[str, ...], Series]):
    def __init__(self, bounds: Sequence[float]) -> None:
        super().__init__()
        self._bounds = bounds

    def __missing__(self, labels: tuple[str, ...]) -> Series:
        series = self[labels] = Series(self._bounds)
        return series


class UnlockedHistogram(Collector):
    """What ``prometheus_client.Histogram`` tells; ``series`` has what to observe, by its labels."""

    def __init__(
        self,
        name: str,
        text: str,
        labelnames: Sequence[str],
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._text = text
        self._labelnames = labelnames
        self._bounds = [*(str(float(bound)) for bound in buckets), "+Inf"]
        self.series = _AllSeries([*buckets, inf])
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """The metric without its values, so that the registry knows its name."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        """The metric, for any thread."""
        family = self._family()
        created = _tells_created()
        for labels, series in list(self.series.items()):
            sums, so_far = [], 0
            for text, count in zip(self._bounds, series.counts, strict=True):
                so_far += count
                sums.append((text, so_far))
            family.add_metric(labels, sums, series.total)
            if created:
                named = dict(zip(self._labelnames, labels, strict=True))
                family.add_sample(f"{self._name}_created", named, series.created)
        return [family]

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._text, labels=self._labelnames)


def _tells_created() -> bool:
    """Whether the library tells since when it counts, which its environment and functions set."""
    [metric] = Counter("any", "Any.", registry=None).collect()
    return any(sample.name == "any_created" for sample in metric.samples)
