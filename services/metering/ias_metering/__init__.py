"""Budgets, leases and usage: never overspent, never lost."""
