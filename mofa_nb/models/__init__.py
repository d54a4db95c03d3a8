"""A whole model: its parts, where their weights are found, and loading them strictly."""
