"""The contracts, served: map, call, map."""
