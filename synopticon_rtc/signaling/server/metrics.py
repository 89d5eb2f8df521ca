"""What the server tells Prometheus: its counts, read at the moment that somebody asks."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from synopticon_rtc.signaling.server.counts import Histogram
from synopticon_rtc.signaling.server.hub import Hub

PREFIX = "synopticon_signaling"
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """All metrics of a server, in Prometheus' text format."""

    def __init__(self, hub: Hub) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_HubCollector(hub))
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """Write them."""
        return generate_latest(self._registry)


class _HubCollector(Collector):
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def collect(self) -> Iterator[Metric]:
        hub, counts = self._hub, self._hub.counts
        yield GaugeMetricFamily(f"{PREFIX}_sessions", "Sessions that are open on this server", len(hub.sessions))
        yield GaugeMetricFamily(
            f"{PREFIX}_cluster_sessions",
            "Sessions that are open on the other servers of the cluster",
            len(hub.cluster.remote),
        )
        yield GaugeMetricFamily(
            f"{PREFIX}_backplane_connected",
            "1 while the other servers of the cluster can be reached",
            int(hub.cluster.connected),
        )
        yield GaugeMetricFamily(f"{PREFIX}_rooms", "Rooms with somebody in them", len(hub.rooms))
        yield CounterMetricFamily(f"{PREFIX}_sessions_opened", "Sessions so far", counts.sessions)
        yield CounterMetricFamily(f"{PREFIX}_relayed", "Messages passed on", counts.relayed)
        yield CounterMetricFamily(
            f"{PREFIX}_faults", "Errors that nobody foresaw, each of which is in the log", hub.faults.count
        )
        yield _by(f"{PREFIX}_messages", "Messages from clients", "type", counts.messages.items())
        yield _by(f"{PREFIX}_refused", "Sessions and messages refused", "code", counts.refused.items())
        yield _histogram(
            f"{PREFIX}_relay_seconds", "From the arrival of a message until it was written", counts.latency
        )
        yield _histogram(f"{PREFIX}_join_seconds", "From a session's first seek until its answer", counts.joins)


def _by(name: str, text: str, label: str, values: Iterable[tuple[str, int]]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values:
        family.add_metric([value], count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip([*map(str, histogram.bounds), "+Inf"], histogram.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=histogram.total)
