"""How a store comes from each version to the next: one file a version, never changed once it was released."""
