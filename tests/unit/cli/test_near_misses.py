"""What is nearly right on the command line is refused with what was meant, or with the place of the fault."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.unit.cli.invoking import invoke

NEAR_MISSES = {
    "tail --action Blok": "--action 'Blok' can never match. Did you mean Block?",
    "tail --action ''": "--action '' can never match. KubeArmor's are Block",
    "tail --operation Proces": "Did you mean Process?",
    "tail --namespace Shop": "--namespace 'Shop' can never match. Did you mean shop?",
    "tail --namespace a,b": "Repeat --namespace for each.",
    "tail --namespace [": "--namespace '[' can never match",
    "tail --pod 'web 1'": "Repeat --pod for each.",
    "tail --container a/b": "--container 'a/b' can never match. Names have no such characters.",
    "tail --label =web": "--label =web is not of the form KEY=PATTERN",
    "simulate --rate -1": "rate must be greater than 0, not -1.0",
    "simulate --duration nan": "duration must be greater than 0, not nan",
    "simulate --streams alert": "--streams alert: it is none of alerts, logs, messages. Did you mean alerts?",
    "simulate endpoint --answer okk": "there is no answer 'okk'. Did you mean ok?",
    "config check --set feed=x": "feed: is a section. Set one of its keys, such as feed.endpoints.",
    "config check --set feed.retry=x": "feed.retry: is a section.",
    "config check --set feed.streams=[]": "feed.streams = []: is empty.",
}


@pytest.mark.parametrize(("line", "said"), NEAR_MISSES.items())
def test_a_near_miss_is_wrong_usage_that_names_what_was_meant(line: str, said: str) -> None:
    ended = invoke(*shlex.split(line))
    assert ended.code == 2
    assert said in ended.talk


def test_an_item_that_is_none_is_one_fault_and_not_two() -> None:
    ended = invoke("tail", "--streams", "alert")
    assert ended.talk.count("feed.streams") == 1


UNREACHABLE = {
    "simulate --host 8.8.8.8": "cannot listen on 8.8.8.8:32767: Cannot assign requested address",
    "simulate --host no.such.invalid": "cannot listen on no.such.invalid:32767: ",
    "simulate endpoint --host 8.8.8.8": "cannot listen on 8.8.8.8:4317: Cannot assign requested address",
    "simulate --source no-such-file --port 0": "no-such-file cannot be read: No such file or directory.",
    "simulate --cert-file FILE --key-file FILE --port 0": "certificate and key do not fit",
    "config init /no/such/folder/x": "/no/such/folder/x cannot be written: No such file or directory.",
}


@pytest.mark.parametrize(("line", "said"), UNREACHABLE.items())
def test_what_the_system_refuses_is_told_with_its_reason(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("none", encoding="utf-8")
    ended = invoke(*shlex.split(line.replace("FILE", str(tmp_path / "file"))))
    assert ended.code == 3
    assert said in ended.talk
