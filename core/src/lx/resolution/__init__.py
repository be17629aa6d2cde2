"""From the arguments of a Trainer to the components that are built: data in, data out."""
