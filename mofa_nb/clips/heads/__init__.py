"""Heads, rendered and moved, as training clips for the landmark adapter."""
