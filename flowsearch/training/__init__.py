"""Training one trial: the loop, its checkpoint, its configuration. Nothing here knows of a search."""
