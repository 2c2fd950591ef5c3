"""What benchmarks/race.py is made of: tasks, networks, starts, runs, rows, and the table and pictures of them."""
