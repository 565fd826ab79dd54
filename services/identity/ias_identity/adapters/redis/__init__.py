"""What must be fast and may vanish."""
