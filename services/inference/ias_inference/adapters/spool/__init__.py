"""The spool: usage events on disk until RabbitMQ has confirmed them.

`spool` is the port, `file` the SQLite file, `events` the mapping to the contract.
"""

from ias_inference.adapters.spool.file import SpooledEvent
from ias_inference.adapters.spool.spool import Spool

__all__ = ["Spool", "SpooledEvent"]
