"""What `lx verify-resume` is made of: the process that is killed records what it does, and the one that kills it compares.

`child` runs a script with a `Watch` in it, which writes a `journal`; `trials` start such children, kill them and start them again;
`comparison` finds the first thing in a journal that is not as in the one of a run that nobody killed.
"""
