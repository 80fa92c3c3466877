"""Which run this is: an ordinary one, or a part of the long tests with a seed (bin/test --long). The only place that
reads these variables.
"""

import os
import random

PART = os.environ.get("AIRFLOW_TEST_LONG", "")
# 0 in an ordinary run, in which nothing is left to chance.
SEED = int(os.environ.get("AIRFLOW_TEST_SEED", "0"))


def delays(seed):
    """Return what turns the seconds before a kill into those of this run: the same in an ordinary run, between none and
    as many in a long one.

    Never more: the next task would be over, or the whole run.
    """
    chance = random.Random(seed)
    return lambda seconds: chance.uniform(0, seconds) if seed else seconds
