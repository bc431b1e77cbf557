"""How the runs and nights of a lake stand, from what they wrote: while they run, or after they died."""
