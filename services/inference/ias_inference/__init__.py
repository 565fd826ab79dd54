"""The inference adapter: OpenAI's API and typed gRPC in front of model engines."""
