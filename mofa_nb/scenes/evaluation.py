"""The fixed evaluation scenes (filled in below)."""


def evaluation_scenes(n: int = 32):
    """Placeholder."""
    raise NotImplementedError
