"""Numba kernels over numpy views of Arrow buffers; imports neither pyarrow nor zmq."""
