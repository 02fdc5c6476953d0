"""What pulse counts, as Prometheus metrics on report's port. Pulse and keeper count themselves; here the numbers only get their names."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from quorate_agent.report.listening import Ear
from quorate_agent.voice import Voice


class PulseMetrics(Collector):
    """Made anew at each scrape from pulse's last word. While pulse does not answer there are no numbers, and `pulse_connected` is 0.

    `voice` is report's own log: how many lines of it were lost is counted beside those of the other processes.
    """

    def __init__(self, ear: Ear, voice: Voice) -> None:
        self._ear, self._voice = ear, voice

    def collect(self) -> Iterable[Metric]:
        """All metrics of pulse."""
        yield GaugeMetricFamily("quorate_agent_pulse_connected", "1 while pulse answers.", value=float(self._ear.connected))
        lost = {"report": self._voice.dropped}
        if self._ear.connected:
            lost |= (self._ear.state.get("metrics") or {}).get("logLinesLost") or {}
            yield from _of_state(self._ear.state)
        lines: dict[tuple[str, ...], float] = {(process,): count for process, count in lost.items()}
        yield _labelled(CounterMetricFamily, "log_lines_lost", "Lines that the log did not take at once.", ("process",), lines)


def _of_state(state: Mapping[str, Any]) -> Iterable[Metric]:
    agent, said = state.get("agent") or {}, state.get("metrics") or {}
    for name, what, value in (
        ("armed", "1 while this host is armed.", float(bool(agent.get("armed")))),
        ("storageless", "1 while this host lives on the network alone.", float(bool(agent.get("storageless")))),
        ("evictions", "Hosts that this host has evicted.", len(agent.get("evictions") or ())),
        ("certificates", "Certificates that this host publishes.", len(agent.get("certificates") or ())),
        ("alarms", "Hosts that should be dead by their eviction and still give signs of life.", said.get("alarms")),
        ("licence_left_seconds", "Time until this host is reset if nothing proves that it lives.", said.get("licenceLeft")),
        ("evidence_age_seconds", "Age of the last proof of life on the heartbeat disks.", said.get("evidenceAge")),
    ):
        if value is not None:
            yield GaugeMetricFamily(f"quorate_agent_{name}", what, value=value)
    yield _labelled(
        GaugeMetricFamily, "heartbeat_age_seconds", "Time since that host was last seen to live.", ("peer", "channel"), _ages(said)
    )
    drops: dict[tuple[str, ...], float] = {(reason,): count for reason, count in (state.get("drops") or {}).items()}
    yield _labelled(CounterMetricFamily, "packets_dropped", "Packets thrown away since pulse started.", ("reason",), drops)
    warnings: dict[tuple[str, ...], float] = {(kind,): count for kind, count in (said.get("warnings") or {}).items()}
    yield _labelled(CounterMetricFamily, "warnings", "Times that this began: half of a limit was exceeded.", ("kind",), warnings)
    cycles = said.get("cycles") or {}
    yield from _histogram("storage_cycle_seconds", "How long storage cycles took, those that failed included.", cycles)
    yield CounterMetricFamily(
        "quorate_agent_storage_cycles_failed", "Storage cycles that ended with an error.", value=cycles.get("failed", 0)
    )
    yield from _histogram("pet_lateness_seconds", "How late the keeper petted the watchdog.", said.get("petLateness") or {})


def _ages(said: Mapping[str, Any]) -> dict[tuple[str, ...], float]:
    peers = said.get("peers") or {}
    return {(host, channel): age for host, ages in peers.items() for channel, age in ages.items() if age is not None}


def _labelled(family: Callable[..., Any], name: str, what: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], float]) -> Metric:
    metric = family(f"quorate_agent_{name}", what, labels=labels)
    for label, value in values.items():
        metric.add_metric(label, value)
    assert isinstance(metric, Metric)
    return metric


def _histogram(name: str, what: str, counted: Mapping[str, Any]) -> Iterable[Metric]:
    if not counted.get("counts"):
        return
    buckets, total = [], 0
    for bound, count in zip([*counted["bounds"], "+Inf"], counted["counts"], strict=True):
        total += count
        buckets.append((str(bound), float(total)))
    yield HistogramMetricFamily(f"quorate_agent_{name}", what, buckets=buckets, sum_value=counted["sum"])
