"""Events on their way: outbox, deliveries, endpoints, broker, Camel."""

from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from ops.grafana.panels import BAD, GOOD, LOOK, Page, Query


def dashboard() -> Dashboard:
    """Busbar: integration."""
    page = Page("busbar-integration", "Busbar: integration", "Where are the events, and what becomes of them?")
    _events(page)
    _deliveries(page)
    _endpoints(page)
    _camel(page)
    _rabbitmq(page)
    return page.build()


def _events(page: Page) -> None:
    page.row("Events")
    page.lines(
        "Oldest waiting event",
        "Age of the oldest event that the relay has not handed on; more than seconds means that no relay runs.",
        Query(expr="busbar:outbox_lag_seconds:max", legend="outbox"),
        unit=units.Seconds,
    )
    page.lines(
        "Waiting events",
        "Events that the relay has not handed on, and those that RabbitMQ has not confirmed.",
        Query(expr="busbar:outbox_waiting:max", legend="for the relay"),
        Query(expr="busbar:publication_lag_events:max", legend="for the broker"),
        unit=units.Short,
    )
    page.lines(
        "How workers got their deliveries",
        "By a message of the broker, or by looking into the ledger: retries, and everything while the broker is away.",
        Query(expr="sum by (path) (rate(busbar_bus_taken_total[$__rate_interval]))", legend="{{path}}"),
        unit=units.OpsPerSecond,
        stacked=True,
    )


def _deliveries(page: Page) -> None:
    page.row("Deliveries")
    page.lines(
        "Deliveries by state",
        "What is not finished: retrying and dead should be few.",
        Query(
            expr='sum by (state) (busbar:deliveries:max{state!~"delivered|skipped"})',
            legend="{{state}}",
        ),
        unit=units.Short,
    )
    page.lines(
        "Open deliveries by subscription",
        "The ten longest queues of the ledger.",
        Query(expr="topk(10, busbar:deliveries_open:sum)", legend="{{subscription}}"),
        unit=units.Short,
    )
    page.lines(
        "Dead letters by subscription",
        "Deliveries that wait for a person.",
        Query(expr='topk(10, busbar:deliveries:max{state="dead"})', legend="{{subscription}}"),
        unit=units.Short,
    )
    page.lines(
        "Oldest dead letter",
        "How long the oldest dead letter has waited for a person.",
        Query(expr="busbar:dead_letter_age_seconds:max", legend="oldest"),
        unit=units.DurationSeconds,
    )
    page.lines(
        "Attempts of handlers",
        "Attempts a second of the ten busiest handlers of plugins.",
        Query(
            expr='topk(10, sum by (subscription) (busbar:delivery_attempts:rate5m{endpoint=""}))',
            legend="{{subscription}}",
        ),
        unit=units.OpsPerSecond,
    )
    page.lines(
        "From event to effect",
        "99 of 100 deliveries were done so long after their event; by endpoint, and for all handlers together.",
        Query(
            expr='label_replace(busbar:delivery_latency_seconds:p99_rate5m, "endpoint", "handlers", "endpoint", "")',
            legend="{{endpoint}}",
        ),
        unit=units.Seconds,
    )


def _endpoints(page: Page) -> None:
    page.row("Endpoints")
    page.states(
        "Breakers",
        "An open breaker pauses its endpoint; half-open, one delivery tries whether the remote is back.",
        Query(expr="busbar:breaker_state:max", legend="{{endpoint}}"),
        names={0: ("closed", GOOD), 1: ("half-open", LOOK), 2: ("open", BAD)},
    )
    page.lines(
        "Attempts by endpoint",
        "Attempts a second to deliver to remote systems, by how they ended.",
        Query(
            expr='sum by (endpoint, outcome) (busbar:delivery_attempts:rate5m{endpoint!=""})',
            legend="{{endpoint}} {{outcome}}",
        ),
        unit=units.OpsPerSecond,
        width=12,
        stacked=True,
    )


def _camel(page: Page) -> None:
    page.row("Camel")
    page.lines(
        "Handed over",
        "Deliveries that Camel has, and owes an outcome.",
        Query(expr="busbar:handed_over:max", legend="{{endpoint}}"),
        unit=units.Short,
        width=6,
    )
    page.lines(
        "Oldest without outcome",
        "How long Camel has owed the oldest outcome; after ten minutes Busbar hands it over again.",
        Query(expr="busbar:handed_over_age_seconds:max", legend="{{endpoint}}"),
        unit=units.Seconds,
        width=6,
    )
    page.lines(
        "Exchanges by route",
        "Exchanges a second that Camel's routes have worked on.",
        Query(
            expr='sum by (routeId) (rate(camel_exchanges_total{eventType="route"}[$__rate_interval]))',
            legend="{{routeId}}",
        ),
        unit=units.OpsPerSecond,
        width=6,
    )
    page.lines(
        "Failed exchanges",
        "Exchanges a second that ended with an exception.",
        Query(
            expr='sum by (routeId) (rate(camel_exchanges_failed_total{eventType="route"}[$__rate_interval]))',
            legend="{{routeId}}",
        ),
        unit=units.OpsPerSecond,
        width=6,
    )


def _rabbitmq(page: Page) -> None:
    page.row("RabbitMQ")
    page.states(
        "Connected",
        "Whether each worker reaches the broker.",
        Query(
            expr="busbar_broker_connected and on (instance) busbar_worker_running > 0",
            legend="{{instance}}",
        ),
        names={0: ("away", BAD), 1: ("connected", GOOD)},
        width=8,
    )
    page.lines(
        "Waiting messages by queue",
        "The ten longest queues of the broker.",
        Query(expr="topk(10, sum by (queue) (rabbitmq_detailed_queue_messages_ready))", legend="{{queue}}"),
        unit=units.Short,
    )
    page.lines(
        "Consumers by queue",
        "A queue without one is not worked on; busbar.dead has none.",
        Query(expr="bottomk(10, sum by (queue) (rabbitmq_detailed_queue_consumers))", legend="{{queue}}"),
        unit=units.Short,
    )
    page.lines(
        "Messages",
        "Messages a second that the broker received and delivered.",
        Query(
            expr="sum(rate(rabbitmq_global_messages_received_total[$__rate_interval]))",
            legend="received",
        ),
        Query(
            expr="sum(rate(rabbitmq_global_messages_delivered_total[$__rate_interval]))",
            legend="delivered",
        ),
        Query(
            expr="sum(rate(rabbitmq_global_messages_redelivered_total[$__rate_interval]))",
            legend="redelivered",
        ),
        unit=units.OpsPerSecond,
    )
    page.lines(
        "Alarms and given up messages",
        "While there is an alarm, publishers wait. Messages in busbar.dead are what nobody could take.",
        Query(expr="max(rabbitmq_alarms_memory_used_watermark)", legend="memory alarm"),
        Query(expr="max(rabbitmq_alarms_free_disk_space_watermark)", legend="disk alarm"),
        Query(expr='sum(rabbitmq_detailed_queue_messages{queue="busbar.dead"})', legend="in busbar.dead"),
        Query(expr="sum(increase(busbar_bus_refused_total[1h]))", legend="refused by Busbar, last hour"),
        unit=units.Short,
    )
    page.lines(
        "Disk and memory",
        "Free disk space, and what the nodes use of memory.",
        Query(expr="rabbitmq_disk_space_available_bytes", legend="{{instance}} free disk"),
        Query(expr="rabbitmq_process_resident_memory_bytes", legend="{{instance}} memory"),
        unit=units.BytesIEC,
    )
