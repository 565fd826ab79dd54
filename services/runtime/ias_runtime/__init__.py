"""The chassis of every IAS service: server, interceptors, settings, database. No business nouns."""

import os

# gRPC reads this when it is first imported, so every service's package imports this one first. Its
# newer poller for servers passes each event through a pool of threads: 11 context switches a bare
# call, against 3 with the older one.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")
