"""The ledger in PostgreSQL: schema `metering`."""
