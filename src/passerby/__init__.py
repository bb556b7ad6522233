"""passerby: follows shoppers from camera to camera without knowing who they are, and states its error."""
