"""`ias-admin`: IAS from the terminal, over its gRPC interface."""
