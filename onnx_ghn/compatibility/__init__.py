"""What runtimes, trainers and file tools are known to refuse in a model, or to compute otherwise."""
