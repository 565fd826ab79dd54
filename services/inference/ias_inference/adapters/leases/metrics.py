"""What operators see of leases."""

from prometheus_client import Counter

CALLS = Counter(
    "ias_inference_lease_calls", "Calls to metering's QuotaService.", ["rpc", "outcome"]
)
DRAWS = Counter("ias_inference_draws", "Draws of requests on leases.", ["outcome"])
GRANTED = DRAWS.labels("granted")
REFUSED = DRAWS.labels("refused")
UNAVAILABLE = DRAWS.labels("unavailable")
