"""The motion pad: draw, tweak, preview and animate inside a notebook."""


def __getattr__(name: str):
    """`MotionPad`, on first use: the state needs no widgets."""
    if name != "MotionPad":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mofa_nb.pad.app import MotionPad

    return MotionPad
