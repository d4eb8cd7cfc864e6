"""The catalogue of metrics: everything that a gate measures, with what it means.

The reference page is made from it, and tests hold the endpoint, the dashboard and the rules for
alerts to it. The invariant: no label has a value that a client chooses: no address, name or URL.
"""

from __future__ import annotations

from typing import Final

from .series import Metric, MetricKind

__all__ = ["CATALOGUE"]

_SHORT: Final = (0.0001, 0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 30.0)
"""Seconds of what usually takes microseconds to some milliseconds."""

_MIDDLE: Final = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
"""Seconds of what waits for a server, or for a scanner."""

_LONG: Final = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0)
"""Seconds of what lives as long as clients like."""


def _counter(name: str, meaning: str, *labels: str) -> Metric:
    return _metric(name, "counter", meaning, labels)


def _gauge(name: str, meaning: str, *labels: str) -> Metric:
    return _metric(name, "gauge", meaning, labels)


def _common(name: str, meaning: str, *labels: str) -> Metric:
    """Return a gauge that has the same value in every process."""
    return _metric(name, "gauge", meaning, labels, is_same_everywhere=True)


def _spread(name: str, meaning: str, bounds: tuple[float, ...], *labels: str) -> Metric:
    return _metric(name, "histogram", meaning, labels, bounds)


def _metric(
    name: str,
    kind: MetricKind,
    meaning: str,
    labels: tuple[str, ...],
    bounds: tuple[float, ...] = (),
    *,
    is_same_everywhere: bool = False,
) -> Metric:
    return Metric(f"sluicegate_{name}", kind, meaning, labels, bounds, is_same_everywhere)


_GATE: Final = (
    _common("info", "Always 1; its labels say what runs.", "version", "backend"),
    _common("start_time_seconds", "When the gate was started, in seconds since the Unix epoch."),
    _common("phase", "1 for the phase the gate is in, 0 for the others.", "phase"),
    _counter("reloads", "Reloads, by what became of them.", "result"),
    _common("last_reload_refused", "1 when the files are not what is in force."),
    _common("last_reload_timestamp_seconds", "When files were put in force last."),
    _gauge("warnings", "What the status warns of, in number."),
    _common(
        "certificate_expiry_timestamp_seconds",
        "When a certificate of the gate ends.",
        "certificate",
    ),
)

_PROCESSES: Final = (
    _common("process_up", "1 while a process of the gate is there and answers.", "process"),
    _counter("process_restarts", "How often a process had to be started again.", "process"),
    _counter("process_cpu_seconds", "CPU time of a process.", "process"),
    _gauge("process_resident_memory_bytes", "Resident memory of a process.", "process"),
    _gauge("process_open_fds", "Open descriptors of a process.", "process"),
    _gauge("process_max_fds", "Descriptors that a process may open.", "process"),
    _counter("processes_ended", "Processes that ended unexpectedly, from records.", "process"),
    _counter("loop_blocked", "How often the loop of a worker did not turn for loop_block_s."),
    _counter("loop_blocked_seconds", "How long it did not turn then."),
)

_CONNECTIONS: Final = (
    _gauge("connections_open", "Connections that are open now."),
    _gauge("sessions_open", "Sessions that are known now."),
    _counter("listener_accepted", "Clients that a listener has accepted.", "listener"),
    _common("listener_paused", "1 while a listener accepts nobody, for want of room.", "listener"),
    _counter("connections_allowed", "Connections that were let in."),
    _counter("connections_denied", "Connections that were not let in."),
    _counter(
        "decisions",
        "Decisions on connections, from records.",
        "listener",
        "transport",
        "verdict",
    ),
    _counter(
        "rule_decisions", "Decisions on connections and requests, by rule.", "rule", "verdict"
    ),
    _counter("connections_ended", "Connections that ended.", "listener", "outcome"),
    _spread("connection_duration_seconds", "How long connections lived.", _LONG, "listener"),
    _counter("traffic_bytes", "Bytes of ended connections, by direction.", "direction"),
    _counter(
        "traffic_path_bytes",
        "Bytes of ended connections: spliced by the kernel, inspected by filters, or relayed.",
        "path",
    ),
    _counter("datagrams", "Datagrams of ended UDP connections that were passed on.", "direction"),
    _counter("datagrams_dropped", "Datagrams of ended UDP connections that were not.", "reason"),
    _counter("dials", "Servers that were dialled for connections.", "result"),
    _spread("dial_seconds", "How long servers took to accept connections.", _MIDDLE),
    _counter("revoked", "Connections that a change of policy has ended."),
    _gauge("revoking", "Open connections that are to be judged again, or go on for their grace."),
    _counter("learned", "Connections that passed only to be learned from."),
)

_WEB: Final = (
    _counter("http_requests", "HTTP requests, decided on and over.", "listener", "verdict", "code"),
    _spread("http_request_duration_seconds", "From a request's head to its answer's end.", _MIDDLE),
    _counter("http_body_bytes", "Bytes of bodies of HTTP messages.", "direction"),
)

_TLS: Final = (
    _counter(
        "tls_opened",
        "TLS connections that a rule had opened or validated, by what became of the server's "
        "certificate.",
        "action",
        "verification",
    ),
    _gauge("leaves_kept", "Certificates for clients that are remembered."),
    _counter("leaves_found", "Handshakes for which one was remembered."),
    _counter("leaves_minted", "Certificates that the signer has made."),
    _counter("leaves_failed", "Handshakes for which there was none."),
)

_OBJECTS: Final = (
    _counter("transfers", "Objects that were held.", "protocol", "direction", "verdict"),
    _counter("transfer_bytes", "Bytes of objects that were held.", "protocol", "direction"),
    _counter("transfer_written_bytes", "Bytes of these that went to files.", "protocol"),
    _spread("transfer_held_seconds", "From an object's first byte to its verdict.", _MIDDLE),
    _gauge("spool_bytes", "Bytes that are held now."),
    _gauge("spool_memory_bytes", "Bytes of these that are in memory."),
    _common("spool_max_bytes", "What may be held, over all workers (spool_bytes_max)."),
    _gauge("spool_objects", "Objects that are held now."),
    _gauge("spool_files", "Files that they are in."),
    _gauge("verdicts_kept", "Verdicts of content filters that need not be asked for again."),
    _counter("verdict_cache_hits", "Objects that a filter did not have to judge."),
    _counter("verdict_cache_misses", "Objects that it had to, though its verdict could be kept."),
)

_FILTERS: Final = (
    _common("filter_failed", "1 while a filter does not work.", "filter"),
    _counter(
        "filter_calls", "Events, connections, messages and objects it was asked of.", "filter"
    ),
    _counter("filter_failures", "How often it raised, was late or answered nonsense.", "filter"),
    _counter(
        "filter_failures_recorded",
        "The same, from records, by what became of the traffic.",
        "filter",
        "action",
    ),
    _spread(
        "filter_seconds",
        "How long a filter took to answer about an event, a message or an object.",
        _SHORT,
        "filter",
    ),
    _counter("filter_restarts", "How often its process was replaced.", "filter"),
    _gauge("filter_memory_bytes", "Resident memory of its process.", "filter"),
)

_SCANNERS: Final = (
    _common("scanner_failed", "1 while a scanner takes no objects.", "scanner"),
    _gauge("scanner_processes", "Processes that run now.", "scanner"),
    _gauge("scanner_waiting", "Objects that wait for it, or are with it.", "scanner"),
    _counter("scanner_restarts", "How often a process was replaced.", "scanner"),
    _gauge("scanner_memory_bytes", "Resident memory of its processes.", "scanner"),
    _counter("scanner_asked", "Objects that it was asked about.", "scanner"),
    _counter("scanner_found", "Objects in which it found something.", "scanner"),
    _counter("scanner_unfinished", "Objects that were not looked at to their end.", "scanner"),
    _counter("scanner_remembered", "Objects whose answer was known.", "scanner"),
    _spread(
        "scanner_seconds",
        "How long a scanner took to answer about an object, waiting included.",
        _MIDDLE,
        "scanner",
    ),
)

_NAMES: Final = (
    _counter("lookups", "Questions that DNS servers were asked, from records.", "result"),
    _spread("lookup_seconds", "How long they took.", _MIDDLE),
    _counter("resolver_events", "What the resolver did, by its own words.", "event"),
    _gauge("resolver_kept", "Answers that are remembered."),
    _gauge("resolver_asking", "Questions that are on their way."),
)

_LIMITS: Final = (
    _counter("limits_reached", "How often a limit was reached.", "limit"),
    _counter("flood_limits_reached", "How often a flood limit of the policy was.", "limit"),
    _gauge("flood_clients", "Clients whose doings are kept for flood limits."),
)

_RECORDS: Final = (
    _counter("records", "Records that were made.", "kind"),
    _counter("records_lost", "Records that found no room."),
    _gauge("records_queued_bytes", "Records that are not known to be in the log."),
    _common("records_failing", "1 while records cannot be written."),
    _common("store_last", "The number of the last record in the store."),
    _common("store_behind_bytes", "Bytes of the log that are not in the store."),
    _common("store_failing", "1 while records cannot be stored."),
    _counter("sink_sent", "Records, or spans of traces, that another system has taken.", "sink"),
    _counter("sink_lost", "Those that did not get there.", "sink"),
    _counter("trace_steps_left_out", "Steps of traced connections beyond TRACE_STEPS_PER_S_MAX."),
    _common("sink_behind_bytes", "Bytes of the log that wait for another system.", "sink"),
    _common("sink_failing", "1 while another system takes nothing.", "sink"),
    _counter("operator_actions", "What operators did.", "action", "result"),
    _counter("alerts", "Alerts that were raised, acknowledged or are over.", "alert", "event"),
)

_ALERTS: Final = (
    _common("alerts_open", "Alerts that wait to be acknowledged."),
    _counter("alerts_raised", "Alerts that were raised, once more each time.", "alert", "severity"),
    _counter("alert_actions_failed", "Actions of alerts that failed for good.", "action"),
)

_PORT: Final = (
    _counter("port_turns", "Turns of the completion port."),
    _counter("port_submitted", "Operations that were submitted."),
    _counter("port_completed", "Operations that are complete."),
    _gauge("port_pending", "Operations that are on their way: the depth of the port."),
    _gauge("port_handles", "Handles that are hooked to the port."),
    _gauge("port_timers", "Timers that are set."),
    _counter("port_starved", "How often a receive found no shared buffer."),
    _gauge("port_blocking_threads", "Threads for calls that block."),
    _gauge("port_blocking_waiting", "Calls that wait for one."),
    _counter("port_internal_errors", "Errors of ours; each has ended what it was raised in."),
)

CATALOGUE: Final = {
    metric.name: metric
    for metric in (
        *_GATE,
        *_PROCESSES,
        *_CONNECTIONS,
        *_WEB,
        *_TLS,
        *_OBJECTS,
        *_FILTERS,
        *_SCANNERS,
        *_NAMES,
        *_LIMITS,
        *_RECORDS,
        *_ALERTS,
        *_PORT,
    )
}
"""By name, in the order in which they are written."""
