"""What a request used: the facts of one usage event."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class UsageStatus(StrEnum):
    """How a request ended; see ias.metering.v1.UsageStatus."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    CUT_OFF = "cut_off"
    INTERRUPTED = "interrupted"


@dataclass(slots=True)
class Usage:
    """One request that reached an engine. Counts come from the engine and only ever grow."""

    event_id: str
    """A UUIDv7, fixed when the request begins."""
    occurred_at: datetime
    """When the request began, aware and in UTC; decides the budget period."""
    organization_id: str
    user_id: str
    api_key_id: str
    model: str
    operation: str
    request_id: str
    streamed: bool
    prompt_price_nanos: int = 0
    """Price of 1 000 prompt tokens, in 10⁻⁹ units, as registered when the request began."""
    completion_price_nanos: int = 0
    lease_id: str = ""
    status: UsageStatus = UsageStatus.INTERRUPTED
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    time_to_first_token_us: int = 0
    duration_us: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together: what is taken out of budgets."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def cost_nanos(self) -> int:
        """Cost in 10⁻⁹ units of the currency, rounded up."""
        thousandfold = (
            self.prompt_tokens * self.prompt_price_nanos
            + self.completion_tokens * self.completion_price_nanos
        )
        return -(-thousandfold // 1000)
