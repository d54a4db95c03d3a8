"""Our code against numbers recorded from the release: `pytest tests/test_parity.py --golden DIR`.

The checks live in the parity_*.py files beside this one, by topic.
"""

from parity_chain import *  # noqa: F403
from parity_controls import *  # noqa: F403
from parity_core import *  # noqa: F403
from parity_faces import *  # noqa: F403
from parity_motion import *  # noqa: F403
from parity_sampling import *  # noqa: F403
from parity_voice import *  # noqa: F403
