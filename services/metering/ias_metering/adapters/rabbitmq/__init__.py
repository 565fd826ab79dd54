"""The queue that usage events arrive through."""
