"""Answer dry runs of Snakemake: one process that has imported it once, and a fork of it for each dry run.

A line of JSON on standard input asks for one: the folder, the environment, the arguments, a package's folder that comes
first on the path, and the files for what is printed. A line with the exit code answers. The project's package is not
imported before a fork, so that each dry run reads the package of its folder.
"""

import gc
import json
import os
import sys
import traceback

import pydantic  # noqa: F401
import snakemake.cli
import yaml  # noqa: F401


def plan(request):
    """Be `snakemake` in the request's folder; never return."""
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path.insert(0, request["source"])
    sys.argv = request["command"]
    code = 1
    try:
        snakemake.cli.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main():
    """Answer until nobody asks any more."""
    assert not any(name.split(".")[0] == "nclens" for name in sys.modules)
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            plan(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
