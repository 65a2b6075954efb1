"""What was shed, and why: the account and the summary, printed when the program ends.

    python examples/account_at_exit.py

Orders come in bursts of 500, for a queue of 256. What does not fit is dropped, the oldest of the lowest priority first.
While that goes on, cache look-ups are shed, which are LOW, then all but orders that failed, which are HIGH.
"""

import atexit
import random
import time

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import StatusCode

from otel_shed import LoadShedder, ShedConfig

shedder = LoadShedder(
    ShedConfig.from_env(max_queue_size=256, max_export_batch_size=64, low_priority_names=("cache *",))
)


@atexit.register  # before the provider is made: what is registered last runs first, so its spans are delivered by then
def print_account() -> None:
    stats = shedder.stats()
    print(f"of {stats.started:,} traces {stats.sampled_out:,} were not recorded")
    print(f"of {stats.ended:,} spans {stats.exported:,} were exported, {stats.unaccounted} are unknown; not exported:")
    for reason, count in {**stats.dropped, "only the summary is kept": stats.summarized}.items():
        print(f"  {count:>8,} {reason}")
    print("what is known of those that were shed:")
    for row in stats.summary[:10]:
        times = f"95 % within {row.quantile(0.95) * 1000:.2f} ms, all within {row.max * 1000:.2f} ms"
        print(f"  {row.count:>8,} {row.name}, {row.errors} of them failed; {times}")


provider = TracerProvider(sampler=shedder.sampler())
provider.add_span_processor(shedder.span_processor())
tracer = provider.get_tracer("shop")


for _ in range(20):
    for _ in range(500):
        with tracer.start_as_current_span("order") as order:
            tracer.start_span("cache get").end()
            if random.random() < 0.02:
                order.set_status(StatusCode.ERROR)
    time.sleep(0.1)
