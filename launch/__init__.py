"""The side of AWS: publish, channels, rollouts. It knows nothing of how an image is baked."""
