"""A program that ends without a word to its provider. Arguments: the file, and how it ends."""

import sys
import threading
import time

from appending import AppendingExporter, end_spans, provider_to

PATH, HOW = sys.argv[1:]
provider = provider_to(AppendingExporter(PATH), shutdown_on_exit=HOW != "nobody shuts down")
end_spans(provider, "main", 10)


def work_on() -> None:
    """Not a daemon: the interpreter waits for it, after the last line of the program."""
    threading.main_thread().join()
    end_spans(provider, "late", 10)


def work_for_ever() -> None:
    tracer = provider.get_tracer(__name__)
    while True:
        tracer.start_span("for-ever").end()
        time.sleep(0.001)


if HOW == "a thread works on":
    threading.Thread(target=work_on).start()
if HOW == "a daemon works for ever":
    threading.Thread(target=work_for_ever, daemon=True).start()
if HOW == "raises":
    raise RuntimeError("the program fails")
if HOW == "exits":
    sys.exit(3)
