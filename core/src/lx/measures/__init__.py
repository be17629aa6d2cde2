"""What a model takes: parameters, operations, memory, time, and what the machine offers."""
