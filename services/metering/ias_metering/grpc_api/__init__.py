"""What metering serves: map, call, map."""
