"""The ZeroMQ cluster's home: messages and journal so far; master, workers and data plane will live here."""
