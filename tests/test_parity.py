"""Our code against numbers recorded from the release: `pytest tests/test_parity.py --golden DIR`.

The checks live in the parity_*.py files beside this one, by topic.
"""

from parity_motion import *  # noqa: F403
