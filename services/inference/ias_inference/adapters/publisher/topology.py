"""The exchanges and queues of usage events. Both ends declare the same, so either may come first.

No delivery limit: a message that metering could not settle yet is never given up.
"""

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractExchange

EXCHANGE = "ias.usage"
ROUTING_KEY = "events"
QUEUE = "ias.usage.events"
DEAD_LETTERS = "ias.usage.dead"
"""Both the exchange and the queue for what can't be understood."""
QUORUM = {"x-queue-type": "quorum"}


async def declare(channel: AbstractChannel) -> AbstractExchange:
    """Declares it all and returns the exchange to publish to. Changes nothing when it is there."""
    dead = await channel.declare_exchange(DEAD_LETTERS, ExchangeType.DIRECT, durable=True)
    dead_queue = await channel.declare_queue(DEAD_LETTERS, durable=True, arguments=dict(QUORUM))
    await dead_queue.bind(dead, ROUTING_KEY)
    exchange = await channel.declare_exchange(EXCHANGE, ExchangeType.DIRECT, durable=True)
    queue = await channel.declare_queue(
        QUEUE, durable=True, arguments={**QUORUM, "x-dead-letter-exchange": DEAD_LETTERS}
    )
    await queue.bind(exchange, ROUTING_KEY)
    return exchange
