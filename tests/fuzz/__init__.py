"""Thousands of broken, odd and hostile inputs: each is taken, or refused in one sentence."""
