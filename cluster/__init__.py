"""The ZeroMQ cluster's home: master, workers and data plane will live here. Nothing is built yet."""
