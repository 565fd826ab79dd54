"""The chassis of every IAS service: server, interceptors, settings, database. No business nouns."""
