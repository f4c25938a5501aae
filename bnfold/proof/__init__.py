"""The proof that a written file computes what its original does."""
