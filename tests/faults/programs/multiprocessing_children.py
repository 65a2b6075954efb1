"""Children of each kind that multiprocessing has; they end spans and flush nothing. Arguments: the file, the method."""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

from appending import AppendingExporter, end_spans, provider_to

PATH, METHOD = sys.argv[1:]
# A forked child inherits this one, a spawned child makes its own when it imports the program.
provider = provider_to(AppendingExporter(PATH))


def child(name: str) -> None:
    end_spans(provider, name, 10)
    if name == "raises":
        raise RuntimeError("the child fails")
    if name == "exits":
        sys.exit(3)


def main() -> None:
    context = multiprocessing.get_context(METHOD)
    end_spans(provider, "parent", 10)
    children = [context.Process(target=child, args=(name,)) for name in ("returns", "raises", "exits")]
    for process in children:
        process.start()
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        list(pool.map(child, ["pool-a", "pool-b", "pool-c", "pool-d"]))
    for process in children:
        process.join()
    print("exit codes", [process.exitcode for process in children])


if __name__ == "__main__":
    main()
