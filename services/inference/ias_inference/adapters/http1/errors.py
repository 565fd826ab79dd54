"""What can go wrong with a server.

HttpError
├── Disconnected   it closed the connection, before or in its answer
└── Stalled        nothing came for longer than the caller's patience
"""


class HttpError(Exception):
    """The server can't be reached, or what it sent is no HTTP answer."""


class Disconnected(HttpError):
    """The server closed the connection."""

    def __init__(self, *, answered: bool) -> None:
        super().__init__("the server closed the connection")
        self.answered = answered
        """Whether any of its answer had come."""


class Stalled(HttpError):
    """Nothing came for too long."""
