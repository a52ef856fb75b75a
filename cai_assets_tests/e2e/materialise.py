"""A run of the graph in a process of its own, for tests that end it from outside.

    python -m cai_assets_tests.e2e.materialise FIRST LAST SELECTION FOLDER

The settings come from the environment; FOLDER takes what Dagster keeps of the run. Says `ready` when the run
begins.
"""

import sys

import dagster as dg

from cai_assets.settings import Settings
from cai_assets_tests.fixtures.platform import Platform


def main() -> None:
    first, last, selection, folder = sys.argv[1:]
    with dg.DagsterInstance.ephemeral(tempdir=folder) as instance:
        platform = Platform(Settings(_env_file=None), instance)
        print("ready", flush=True)
        platform.run(first, last, select=selection)


if __name__ == "__main__":
    main()
