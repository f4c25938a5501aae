"""Pure NumPy in float64: affine maps, weights that absorb them, rounding. Knows no file format."""
