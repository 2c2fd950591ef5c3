"""Networks of our own, where no package has a small one: one module a kind of data."""
