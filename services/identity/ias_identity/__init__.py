"""identity: who is calling, and may they."""

import ias_runtime as _before_grpc  # noqa: F401 - it sets how gRPC polls
