"""The inference adapter: OpenAI's API and typed gRPC in front of model engines."""

import ias_runtime as _before_grpc  # noqa: F401 - it sets how gRPC polls
