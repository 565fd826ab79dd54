"""The publisher: from the spool to RabbitMQ, each event confirmed before it is forgotten."""

from ias_inference.adapters.publisher.publisher import Publisher

__all__ = ["Publisher"]
