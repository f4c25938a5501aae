"""The audit: findings about the BatchNorm layers of a model."""
