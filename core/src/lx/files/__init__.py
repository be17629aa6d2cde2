"""Files that are whole or not there, for checkpoint I/Os and whoever else keeps what must not be lost."""
