"""The development stack: everything IAS needs, private to one checkout, under `.ias/`.

One file per part that runs (postgres, redis, rabbitmq, services, envoy), each saying how it is
prepared, started and known to be ready; `up` and `down` put them in order; supervisor keeps them.
"""
