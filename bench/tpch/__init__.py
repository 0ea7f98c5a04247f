"""TPC-H's 22 queries: with kernelmill, with Polars and in SQL, and the tables that they ask."""
