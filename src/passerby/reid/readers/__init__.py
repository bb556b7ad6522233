"""Readers of data sets, one a kind: a folder in its official layout becomes a release of pictures."""
