"""What operators see of the spool."""

from prometheus_client import Counter, Gauge

EVENTS = Gauge("ias_inference_spooled_events", "Usage events that wait for RabbitMQ's confirm.")
SIZE = Gauge("ias_inference_spooled_bytes", "Size of the usage events that wait.")
FAILURES = Counter("ias_inference_spool_failures", "Writes to the spool that failed.")
