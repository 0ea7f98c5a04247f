"""The ZeroMQ cluster's home: messages so far; master, workers and data plane will live here."""
