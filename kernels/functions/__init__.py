"""The user's functions as machine code. Imports numba: only what compiles a user's function may import it."""
