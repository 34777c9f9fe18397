"""Pure functions and their derivatives: everything that can be put on the tape."""
