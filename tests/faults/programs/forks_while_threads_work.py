"""A parent whose threads end spans all the time, and forks; the children end spans too. Argument: the file."""

import os
import sys
import threading

from appending import AppendingExporter, end_spans, provider_to

provider = provider_to(AppendingExporter(sys.argv[1]))
enough = threading.Event()
ended = [0] * 4


def work(thread: int) -> None:
    tracer = provider.get_tracer(__name__)
    while not enough.is_set():
        tracer.start_span(f"thread-{thread}-{ended[thread]}").end()
        ended[thread] += 1
        if ended[thread] % 100 == 0:
            enough.wait(0.01)  # or the queue would overflow, and a fork take long for all that it copies


def child(number: int) -> None:
    """Ends in each of the ways in which a child can that was not made by multiprocessing."""
    end_spans(provider, f"child-{number}", 5)
    if number % 3 == 0:
        sys.exit()
    if number % 3 == 1:
        delivered = provider.force_flush(10_000)
        os._exit(0 if delivered else 1)
    if os.fork() == 0:
        end_spans(provider, f"grandchild-{number}", 5)
        sys.exit()
    os.wait()
    sys.exit()


threads = [threading.Thread(target=work, args=(number,)) for number in range(len(ended))]
for thread in threads:
    thread.start()
statuses = []
for number in range(12):
    if (pid := os.fork()) == 0:
        child(number)
    statuses.append(os.waitpid(pid, 0)[1])
enough.set()
for thread in threads:
    thread.join()
provider.force_flush()
print("statuses", set(statuses))
print("ended", *ended)
