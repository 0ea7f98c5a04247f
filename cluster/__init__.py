"""The ZeroMQ cluster's home: messages, journal, keys, the master's machine; its processes and data plane will come."""
