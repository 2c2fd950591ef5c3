"""One module a suite, or a few small ones: its networks, in the order in which they race."""
