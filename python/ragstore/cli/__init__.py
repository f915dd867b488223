"""The command `ragstore`: a store's operations from a shell. `docs/guides/command-line.md` is its manual."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence

from ..exceptions import RagstoreError
from .output import Output
from .parser import UsageError, parse

__all__ = ["main"]

OK = 0
PROBLEMS = 1
USAGE = 2
REFUSED = 3
DEFECT = 4
INTERRUPTED = 130
BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process when not given.

    Returns
    -------
    int
        0, all is well; 1, problems were found; 2, it was called in a wrong way; 3, the store or the system refused;
        4, a defect; 130, interrupted; 141, nobody reads the output any more.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    output = Output(json="--json" in given)
    try:
        args = parse(given)
        if args.verbose:
            logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
        code = PROBLEMS if args.run(args, output) else OK
        sys.stdout.flush()
    except SystemExit as ended:
        # Of --help and --version.
        return ended.code if isinstance(ended.code, int) else OK
    except BrokenPipeError:
        # Nor may the interpreter flush into it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        output.error("KeyboardInterrupt", "interrupted")
        return INTERRUPTED
    except UsageError as error:
        output.error("UsageError", str(error), error.usage)
        return USAGE
    except (RagstoreError, OSError, NotImplementedError) as error:
        output.error(type(error).__name__, str(error))
        return REFUSED
    except (ValueError, TypeError) as error:
        output.error(type(error).__name__, str(error))
        return USAGE
    except Exception as error:  # noqa: BLE001  (it ends the process, and says why)
        traceback.print_exc()
        output.error(type(error).__name__, f"a defect of ragstore: {error}; please report it with the traceback")
        return DEFECT
    return code
