"""What operators see of the publisher."""

from prometheus_client import Counter

PUBLISHED = Counter("ias_inference_published_events", "Usage events that RabbitMQ confirmed.")
FAILURES = Counter("ias_inference_publish_failures", "Failed attempts to publish, to be repeated.")
