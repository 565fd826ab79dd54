"""What metering stands on."""
