"""The figures that pages show: where they come from, and tables that are made from what the benchmarks wrote."""
