"""The command `nclens`: a job is handed to the workflow's fork server where there is one, all else runs here.

`nclens forkserver` and `nclens worker` are no commands for people: the workflow starts them, and torchrun.
"""

import sys

from nclens.workflow import forkserver
from nclens.workflow.streams import share_cores
from nclens.workflow.worker import work


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["worker"]:
        work(sys.argv[2])
        return
    if sys.argv[1:2] == ["forkserver"]:
        arguments = forkserver.serve(int(sys.argv[2]))
        if arguments is None:
            return
        sys.argv[:] = ["nclens", *arguments]
    else:
        arguments = sys.argv[1:]
        share_cores(arguments)
        if (code := forkserver.hand_over(arguments)) is not None:
            sys.exit(code)
        sys.argv[1:] = arguments
    from nclens.cli import main as run

    run()


if __name__ == "__main__":
    main()
