"""The counters of the server for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class ServerMetrics:
    """Counters, histograms and gauges of one server."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "whinchat_requests", "Requests, by path and status.", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "whinchat_request_seconds", "Duration of a request.", ["path"], buckets=_SECONDS, registry=registry
        )
        self.answers = Counter(
            "whinchat_answers", "Texts classified, by model and label.", ["model", "label"], registry=registry
        )
        self.unsure = Counter(
            "whinchat_unsure", "Texts whose label is below the threshold, by model.", ["model"], registry=registry
        )
        self.batches = Histogram(
            "whinchat_batch_texts", "Texts computed in one batch.", buckets=_BATCH_SIZES, registry=registry
        )
        self.waiting = Gauge("whinchat_waiting_texts", "Texts that are in no batch yet.", registry=registry)

    def page(self) -> bytes:
        """Return all values in the text format of Prometheus."""
        return generate_latest(self._registry)
