"""A site that runs for months: its store, its figures, their report; neither torch nor the simulator."""
