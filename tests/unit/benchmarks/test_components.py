from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.measurements.components import Stack, component_of, read_samples, share_out, short

LINE = (
    "thread (7): encoder;Thread.run (/opt/python/lib/python3.11/threading.py);"
    "Encoder._run (/srv/x/otelbridge/pipeline.py);Mapper.map (/srv/x/otelbridge/mapping/record_encoder.py) 12"
)


def test_a_sample_has_its_thread_and_no_path_of_the_machine() -> None:
    (stack,) = read_samples([LINE])

    assert stack == ("encoder", "threading.py:Thread.run", "otelbridge/pipeline.py:Encoder._run",
                     "otelbridge/mapping/record_encoder.py:Mapper.map")  # fmt: skip


@pytest.mark.parametrize(
    ("frames", "component"),
    [
        (("threading.py:run", "otelbridge/pipeline.py:_run", "otelbridge/mapping/record_encoder.py:map"), "mapping"),
        (("threading.py:run", "otelbridge/pipeline.py:_run"), "pipeline"),
        (("otelbridge/feed/connection.py:read", "grpc/_channel.py:_next"), "feed (gRPC)"),
        (("otelbridge/queue/store.py:write", "threading.py:wait"), "queue"),
        (("threading.py:run",), "Python itself"),
    ],
)
def test_a_sample_belongs_to_the_innermost_component(frames: tuple[str, ...], component: str) -> None:
    assert component_of(frames) == component


def test_a_library_is_named_from_its_package_on() -> None:
    assert short("next (/v/lib/python3.11/site-packages/grpc/_channel.py)") == "grpc/_channel.py:next"


def test_a_thread_s_time_is_shared_out_by_its_samples() -> None:
    samples = Counter[Stack](
        {("encoder", "otelbridge/mapping/record_encoder.py:map"): 3, ("encoder", "otelbridge/queue/store.py:put"): 1}
    )

    rows = share_out({"encoder": 20.0, "core": 5.0}, samples)

    assert [(row["thread"], row["component"], row["cpu_us_per_event"]) for row in rows] == [
        ("encoder", "mapping", 15.0),
        ("encoder", "queue", 5.0),
        ("core", "not sampled", 5.0),
    ]
