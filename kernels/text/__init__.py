"""Text: a view of UTF-8 bytes with the methods of `str`, for user functions compiled by numba. Import `library`."""
