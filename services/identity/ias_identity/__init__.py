"""identity: who is calling, and may they."""
