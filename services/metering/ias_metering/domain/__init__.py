"""Rules and facts of metering. Knows no framework."""
