"""Envoy's configuration, rendered from one small model of ours (`model`) and the contracts."""
