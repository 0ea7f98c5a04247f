"""The ZeroMQ cluster's home: messages, journal and keys so far; master, workers and data plane will live here."""
