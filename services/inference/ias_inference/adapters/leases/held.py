"""The arithmetic of one lease in hand and of the draws on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ias_inference.adapters.leases.quota import Grant
from ias_inference.domain.ports import Draw

if TYPE_CHECKING:
    from ias_inference.adapters.leases.account import Account

UNLIMITED = 1 << 62
SHARE = 4
"""Of what metering has left, a holder counts on one part in so many: others hold leases too."""
SKEWED_PERIOD_S = 1.0


class HeldDraw(Draw):
    """A draw that knows its lease. `reserve` is what it may still grow by."""

    __slots__ = ("account", "lease", "reserve", "settled")

    def __init__(self, account: Account, lease: HeldLease, tokens: int, reserve: int) -> None:
        self.lease_id = lease.lease_id
        self.tokens = tokens
        self.account = account
        self.lease = lease
        self.reserve = reserve
        self.settled = False


class HeldLease:
    """Tokens in hand. Invariant: drawn + used ≤ granted, unless an engine used more than drawn."""

    __slots__ = (
        "drawn",
        "ended",
        "expires_at",
        "exposure",
        "granted",
        "lease_id",
        "outside",
        "renew_at",
        "scarce",
        "usable_until",
        "used",
    )

    def __init__(self, grant: Grant, sent_at: float, now: float) -> None:
        self.lease_id = grant.lease_id
        self.granted = 0
        self.drawn = 0
        """In flight."""
        self.used = 0
        """Settled."""
        self.exposure = 0
        """What the draws in flight may still grow by, all in all."""
        self.ended = False
        """Metering no longer knows it."""
        self.update(grant, sent_at, now)

    def update(self, grant: Grant, sent_at: float, now: float) -> None:
        """Takes over what metering said. Times are of the monotonic clock."""
        self.granted = grant.granted_tokens
        self.scarce = grant.scarce
        self.outside = (
            0
            if grant.scarce
            else UNLIMITED
            if grant.budget is None
            else grant.budget.remaining_tokens // SHARE
        )
        """What metering would probably give on top."""
        self.expires_at = sent_at + grant.life_s
        self.renew_at = sent_at + grant.life_s / 2
        # A period that ended before its lease was granted: the clocks differ; don't stop serving.
        period_s = grant.period_s if grant.period_s > 0 else SKEWED_PERIOD_S
        self.usable_until = min(self.expires_at, now + period_s)

    @property
    def available(self) -> int:
        """Neither drawn nor used; negative when engines used more than was drawn."""
        return self.granted - self.used - self.drawn

    def fit(self, need: int, want: int, whole: bool, now: float) -> int:
        """What a request gets at once: `need`, `want`, or 0 when it must wait.

        `need` suffices while everyone in flight can still grow to their longest answer. Where
        that is not sure, a request gets `want`, and only from what nobody in flight may need: so
        near a limit as many are admitted as can be answered, and none has to be cut off.
        """
        if now >= self.usable_until:
            return 0
        available = self.granted - self.used - self.drawn
        room = available - self.exposure
        if self.outside and room + self.outside >= want:
            tokens = want if whole else need
            return tokens if available >= tokens else 0
        return want if room >= want else 0

    def is_low_for(self, want: int) -> bool:
        """Whether `want` might not fit, so that it has to be asked for as a whole."""
        return self.available - self.exposure + self.outside < want

    def draw(self, account: Account, tokens: int, want: int) -> HeldDraw:
        """Draws what `fit` allowed."""
        reserve = want - tokens if want > tokens else 0
        self.drawn += tokens
        self.exposure += reserve
        return HeldDraw(account, self, tokens, reserve)

    def grow(self, draw: HeldDraw, tokens: int) -> None:
        """Adds to a draw."""
        eased = min(draw.reserve, tokens)
        draw.reserve -= eased
        self.exposure -= eased
        draw.tokens += tokens
        self.drawn += tokens

    def settle(self, draw: HeldDraw, used: int) -> None:
        """Ends a draw."""
        draw.settled = True
        self.drawn -= draw.tokens
        self.exposure -= draw.reserve
        self.used += used
