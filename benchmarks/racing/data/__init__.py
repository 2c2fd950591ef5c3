"""One module a kind of data: from the folder of data sets to the three parts that a task needs."""
