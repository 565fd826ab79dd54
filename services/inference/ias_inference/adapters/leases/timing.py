"""How long things may take in the lease client."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations in seconds."""

    ttl: float = 30.0
    """A lease's life at metering; the most that is believed, should clocks differ."""
    margin: float = 2.0
    """A lease is not drawn on in this last part of its life."""
    idle: float = 1.0
    """A lease without a draw for so long, and none in flight, is released."""
    scarce_idle: float = 0.2
    """The same, when its budget runs low and others wait for what it holds."""
    call: float = 2.0
    """Metering that does not answer for so long can't be reached."""
    down: float = 0.25
    """After a failed call, draws that need another are refused for so long without one."""
    poll_first: float = 0.05
    """First wait before a refused need is asked for again; doubles from there."""
    poll: float = 0.2
    """Longest wait between two such calls."""
    patience: float = 3.0
    """How long a request waits for what other holders may give back."""
    queue: float = 30.0
    """How long a request waits for what requests in flight here may give back."""
    refusal: float = 0.5
    """How long a refusal is remembered, so that a flood of refused requests costs no calls."""
    close: float = 3.0
    """How long closing may take; what is not released by then expires at metering."""
