"""A shop whose truth is known: simulated visits, from trajectories to vectors, crops and video."""
