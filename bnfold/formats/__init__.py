"""Model files at the edge: each format reads into the neutral graph and writes edits back."""
