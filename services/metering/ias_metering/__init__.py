"""Budgets, leases and usage: never overspent, never lost."""

import ias_runtime as _before_grpc  # noqa: F401 - it sets how gRPC polls
