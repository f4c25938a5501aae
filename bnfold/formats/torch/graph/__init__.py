"""An exported program as data, and its reading into the neutral graph."""
