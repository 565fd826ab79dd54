"""Leases from metering: tokens taken out of budgets in advance, per API key.

`leases` is the port, `account` what one API key holds and who waits for it, `keeper` the calls to
metering on its behalf, `held` the arithmetic of one lease, `demand` how much to ask for ahead,
`quota` the calls themselves.
"""

from ias_inference.adapters.leases.leases import MeteringLeases
from ias_inference.adapters.leases.timing import Timing

__all__ = ["MeteringLeases", "Timing"]
