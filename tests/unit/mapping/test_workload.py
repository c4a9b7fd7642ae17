from __future__ import annotations

import itertools

import pytest

from otelbridge.event import Stream, labels_of
from otelbridge.mapping.decode import decode
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.settings import MappingSettings
from otelbridge.pb import kubearmor_pb2 as pb
from tests.unit.mapping.samples import RECEIVED, alert, log, mapped, seen

A, B = "sha256:" + "a1" * 32, "sha256:" + "b2" * 32
# Reference to name, tag, digests and image id; a text that those cannot be put together to again is kept.
IMAGES: dict[str, tuple[str | None, str | None, list[str], str | None]] = {
    f"docker.io/library/nginx:latest@{A}": ("docker.io/library/nginx", "latest", [A], None),
    f"registry.local:5000/team/web@{A}": ("registry.local:5000/team/web", None, [A], None),
    "registry.local:5000/team/web": ("registry.local:5000/team/web", None, [], None),
    "registry.local:5000/web:1.2": ("registry.local:5000/web", "1.2", [], None),
    "wordpress:4.8-apache": ("wordpress", "4.8-apache", [], None),
    "nginx": ("nginx", None, [], None),
    f":v3.21.6{A}": (None, "v3.21.6", [], A),
    A: (None, None, [], A),
    f"{A}@{B}": (None, None, [B], A),
    f"{A}{B}": (None, None, [], B),
    f"@{A}": (None, None, [A], None),
    f"nginx:1.2@{A}@{B}": ("nginx", "1.2", [A, B], None),
    f"nginx:1.2@{A}@{A}": ("nginx", "1.2", [A], None),
    f"nginx:1.2docker://{A}": ("nginx", "1.2", [], A),
    f"nginx:1.2{A}": ("nginx", "1.2", [], A),
    f"docker-pullable://nginx@{A}": ("nginx", None, [A], None),
    "nginx:1.2" + "c3" * 32: ("nginx", "1.2", [], "c3" * 32),
    "nginx:" + "c3" * 32: ("nginx", "c3" * 32, [], None),
    "nginx@": ("nginx", None, [], None),
    "nginx:1.2@sha256:nonsense": ("nginx", "1.2", [], None),
    "localhost:5000": ("localhost", "5000", [], None),
    f"nginx:1.2docker-pullable://nginx@{A}": ("nginx", "1.2", [A], None),
    "nginx:1.2cri-o://" + "c3" * 32: ("nginx", "1.2", [], "c3" * 32),
    "cri-o://" + "c3" * 32: (None, None, [], "c3" * 32),
    "nginx:1.2@sha256:" + "c3" * 70: ("nginx", "1.2", [], None),
    f"[::1]:5000/web:1.2@sha512:{'c3' * 64}": ("[::1]:5000/web", "1.2", [f"sha512:{'c3' * 64}"], None),
    "nginx:": ("nginx", None, [], None),
    "@": (None, None, [], None),
}


@pytest.mark.parametrize("image", IMAGES)
def test_every_form_of_an_image_gives_the_parts_that_it_has(image: str) -> None:
    name, tag, digests, image_id = IMAGES[image]
    found = seen(log(ContainerImage=image)).resource
    assert found.get("container.image.name") == name
    assert found.get("container.image.tags") == ([tag] if tag else None)
    assert found.get("container.image.id") == image_id
    assert found.get("oci.manifest.digest") == (digests[-1] if digests else None)
    named = [f"{name}@{digest}" for digest in digests if name]
    assert found.get("container.image.repo_digests") == (named or None)
    joined = (name or "") + (f":{tag}" if tag else "") + "".join(f"@{digest}" for digest in digests)
    assert found.get("kubearmor.container.image") == (None if joined == image and name else image)


def test_dockers_container_name_is_taken_apart() -> None:
    uid = "0b79c32b-2f4c-4da8-b771-e6baa7ebede4"
    name = f"k8s_ubuntu-1-container_ubuntu-1-5fd94b7b9b-vvbk2_multiubuntu_{uid}_3"
    found = seen(log(ContainerName=name, PodName="", NamespaceName="")).resource
    assert found["k8s.container.name"] == "ubuntu-1-container"
    assert found["container.name"] == name
    assert found["k8s.pod.name"] == "ubuntu-1-5fd94b7b9b-vvbk2"
    assert found["k8s.namespace.name"] == "multiubuntu"
    assert found["k8s.pod.uid"] == uid
    assert found["k8s.container.restart_count"] == 3


@pytest.mark.parametrize("kind", ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob"])
def test_the_six_known_owners_have_keys_of_their_own(kind: str) -> None:
    owner = pb.Podowner(Ref=kind, Name="web", Namespace="shop")
    found = seen(log(Owner=owner)).resource
    assert found[f"k8s.{kind.lower()}.name"] == "web"
    assert not [key for key in found if key.startswith("kubearmor.owner")]


def test_other_owners_are_named_by_kind() -> None:
    found = seen(log(Owner=pb.Podowner(Ref="Rollout", Name="web", Namespace="elsewhere"))).resource
    assert found["kubearmor.owner.kind"] == "Rollout"
    assert found["kubearmor.owner.name"] == "web"
    assert found["kubearmor.owner.namespace"] == "elsewhere"


def test_a_bare_pod_owns_itself_and_adds_nothing() -> None:
    with_owner = seen(log(Owner=pb.Podowner(Ref="Pod", Name="web-0", Namespace="shop"))).resource
    assert with_owner == seen(log()).resource


def test_a_node_id_that_repeats_the_name_is_left_out() -> None:
    assert "host.id" not in seen(log(NodeID="node-1")).resource
    assert seen(log(NodeID="bf0f")).resource["host.id"] == "bf0f"


@pytest.mark.parametrize("reported", ["default", "Default"])
def test_a_configured_cluster_name_replaces_the_placeholder(reported: str) -> None:
    found = seen(log(ClusterName=reported), cluster_name="prod").resource
    assert found["k8s.cluster.name"] == "prod"
    assert "kubearmor.cluster.reported" not in found


def test_a_configured_cluster_name_does_not_hide_a_real_one() -> None:
    found = seen(log(ClusterName="west"), cluster_name="prod").resource
    assert (found["k8s.cluster.name"], found["kubearmor.cluster.reported"]) == ("prod", "west")


def test_granularity_moves_the_workload_between_resource_and_record() -> None:
    where = {
        granularity: [key in seen(log(), resource_granularity=granularity).resource for key in keys]
        for granularity in ("container", "pod", "node")
        for keys in (["host.name", "k8s.pod.name", "k8s.container.name"],)
    }
    assert where == {"container": [True, True, True], "pod": [True, True, False], "node": [True, False, False]}


def test_no_process_is_known_where_kubearmor_gives_no_pid() -> None:
    bare = pb.Alert(Type="SystemEvent", Operation="AlertThreshold", ContainerID="c", MaxAlertsPerSec=10)
    assert not [key for key in seen(bare).attributes if key.startswith("process.")]


def test_root_is_named_where_a_process_is_known() -> None:
    assert seen(log(UID=0)).attributes["process.real_user.id"] == 0
    assert seen(log(UID=1000)).attributes["process.real_user.id"] == 1000
    assert "process.real_user.id" not in seen(log(HostPID=0, UID=0)).attributes
    assert seen(log(HostPID=0, UID=1000)).attributes["process.real_user.id"] == 1000


def test_labels_are_kept_raw_and_parsed_by_opt_in() -> None:
    message = log(Labels="tier=front,app=web")
    assert seen(message).attributes["kubearmor.labels"] == "tier=front,app=web"
    assert not [key for key in seen(message).resource if "label" in key]
    parsed = seen(message, parse_labels=True).resource
    assert (parsed["k8s.pod.label.app"], parsed["k8s.pod.label.tier"]) == ("web", "front")
    found = seen(log(Labels="app=a,app.kubernetes.io/name=b,a.b=1,a_b=2"), parse_labels=True)
    assert {key: text for key, text in found.resource.items() if "label" in key} == {
        "k8s.pod.label.app": "a", "k8s.pod.label.app_kubernetes_io/name": "b", "k8s.pod.label.a_b": "1"
    }  # fmt: skip
    assert found.attributes["kubearmor.truncated"] == ["k8s.pod.label"]
    only = seen(message, parse_labels=True, label_keys=("app",)).resource
    assert [key for key in only if "label" in key] == ["k8s.pod.label.app"]


def test_docker_labels_may_hold_commas_and_equals_signs() -> None:
    assert labels_of("a=1,b=x,y,z,c=p=q,=odd") == {"a": "1", "b": "x,y,z", "c": "p=q,=odd"}
    assert labels_of("") == {}
    assert labels_of("nonsense") == {}


def test_ten_thousand_labels_are_cut_and_the_cut_is_told() -> None:
    labels = ",".join(f"key{number}=value{number}" for number in range(10_000))
    found = seen(log(Labels=labels), parse_labels=True)
    assert len([key for key in found.resource if key.startswith("k8s.pod.label.")]) == 64
    assert found.attributes["kubearmor.truncated"] == ["k8s.pod.label", "kubearmor.labels"]
    assert labels.startswith(found.attributes["kubearmor.labels"])


def service(resource: dict[str, object]) -> tuple[object, ...]:
    return tuple(resource.get(f"service.{key}") for key in ("name", "namespace", "instance.id"))


def test_the_service_is_the_workload_as_the_conventions_work_it_out() -> None:
    owner = pb.Podowner(Ref="Deployment", Name="web", Namespace="shop")
    assert service(seen(log(Owner=owner)).resource) == ("web", "shop", "shop.web-0.web")
    assert service(seen(log()).resource) == ("web-0", "shop", "shop.web-0.web")
    assert service(seen(log(PodName="", NamespaceName="")).resource) == ("web", None, "web")
    labels = "app.kubernetes.io/name=front,app.kubernetes.io/instance=front-eu"
    assert seen(log(Owner=owner, Labels=labels)).resource["service.name"] == "front-eu"
    assert seen(log(Owner=owner, Labels="app.kubernetes.io/name=front")).resource["service.name"] == "front"
    assert seen(log(Owner=pb.Podowner(Ref="Rollout", Name="r"))).resource["service.name"] == "web-0"


def test_a_nodes_own_event_belongs_to_the_sensor() -> None:
    assert service(seen(pb.Log(HostName="n")).resource) == ("kubearmor", None, None)
    assert service(seen(pb.Message(HostName="n")).resource) == ("kubearmor", None, None)


def test_a_given_name_is_the_name_of_all() -> None:
    assert service(seen(log(), service_name="x").resource) == ("x", None, None)
    assert service(seen(pb.Log(HostName="n"), service_name="x").resource) == ("x", None, None)


def test_a_coarser_resource_has_a_coarser_service() -> None:
    owner = pb.Podowner(Ref="Deployment", Name="web", Namespace="shop")
    assert service(seen(log(Owner=owner), resource_granularity="pod").resource) == ("web", "shop", "shop.web-0")
    assert service(seen(log(Owner=owner), resource_granularity="node").resource) == ("kubearmor", None, None)


def test_given_attributes_win_over_found_ones() -> None:
    given = {"deployment.environment.name": "prod", "k8s.cluster.name": "mine", "service.name": "sec"}
    found = seen(log(), resource_attributes=given).resource
    assert given.items() <= found.items()


def test_a_plain_machine_has_no_kubernetes_attributes() -> None:
    found = seen(alert(Labels="a=b"), kubernetes=False, parse_labels=True).all
    assert not [key for key in found if key.startswith("k8s.")]
    assert found["container.name"] == "web"
    assert found["container.label.a"] == "b"


def test_equal_resources_are_the_same_object() -> None:
    mapper = Mapper(MappingSettings(), version="1")
    first = mapper.map(Stream.LOGS, decode(Stream.LOGS, log().SerializeToString()), RECEIVED)
    second = mapper.map(Stream.LOGS, decode(Stream.LOGS, log(HostPID=8).SerializeToString()), RECEIVED)
    assert first.resource is second.resource


def test_the_order_of_labels_changes_neither_resource_nor_id() -> None:
    orders = [",".join(order) for order in itertools.permutations(["a=1", "b=2", "c=3"])]
    found = [mapped(log(Labels=order), MappingSettings(parse_labels=True)) for order in orders]
    assert len({record.resource for record in found}) == 1
    assert len({seen(log(Labels=order)).attributes["log.record.uid"] for order in orders}) == 1


@pytest.mark.parametrize("enforcer", ["BPFLSM", "PRESET-ExecPreset"])
def test_a_filler_directory_is_left_out(enforcer: str) -> None:
    assert "process.working_directory" not in seen(alert(Enforcer=enforcer, Cwd="/")).attributes
    assert seen(alert(Enforcer=enforcer, Cwd="/tmp/")).attributes["process.working_directory"] == "/tmp"
    assert seen(alert(Enforcer="AppArmor", Cwd="/")).attributes["process.working_directory"] == "/"


def test_presets_are_named() -> None:
    assert seen(alert(Enforcer="PRESET-ExecPreset")).attributes["kubearmor.preset"] == "ExecPreset"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("AB" * 32, "ab" * 32),
        ("0" * 64, None),
        ("q83vASNFZ4k=", "abcdef0123456789"),
        ("AAAAAA==", None),
        ("what?", "what?"),
    ],
)
def test_hashes(value: str, expected: str | None) -> None:
    found = seen(log(ProcessHash=value, HashAlgo="sha256")).attributes
    assert found.get("kubearmor.hash.process") == expected


def test_tags_and_techniques() -> None:
    tags = "NIST,MITRE_T1036_masquerading,MITRE_T1059.004,T1036,PCI_DSS,XT12345"
    found = seen(alert(Tags=tags, ATags=tags.split(","))).attributes
    assert found["kubearmor.tags"] == tags.split(",")
    assert found["kubearmor.mitre.technique.ids"] == ["T1036", "T1059.004"]
    assert "kubearmor.tags_text" not in found
    assert seen(alert(Tags=tags)).attributes["kubearmor.tags"] == tags.split(","), "old builds leave ATags empty"
    assert seen(alert(Tags="x", ATags=["y"])).attributes["kubearmor.tags_text"] == "x"
    assert "kubearmor.mitre.technique.ids" not in seen(alert(Tags=tags), mitre_techniques=False).attributes


def test_a_policy_is_a_set_of_rules_and_its_kind_their_category() -> None:
    kinds = {"MatchedPolicy": "KubeArmorPolicy", "MatchedHostPolicy": "KubeArmorHostPolicy",
             "MatchedNetworkPolicy": "KubeArmorNetworkPolicy", "PolicyMatched": "KubeArmorPolicy"}  # fmt: skip
    for kind, category in kinds.items():
        found = seen(alert(Type=kind)).attributes
        assert [found[f"security_rule.{key}"] for key in ("name", "ruleset.name", "category")] == [
            "no-apt", "no-apt", category
        ]  # fmt: skip
    posture = seen(alert(PolicyName="DefaultPosture")).attributes
    assert posture["security_rule.ruleset.name"] == posture["security_rule.category"] == "DefaultPosture"
    assert "security_rule.category" not in seen(alert(Type="Novelty")).attributes


@pytest.mark.parametrize(("sent", "unsigned"), [(-2, 4294967294), (-448690528, 3846276768), (2**31 - 1, 2**31 - 1)])
def test_a_users_id_is_unsigned(sent: int, unsigned: int) -> None:
    assert seen(log(UID=sent)).attributes["process.real_user.id"] == unsigned


@pytest.mark.parametrize(
    ("sent", "shown"),
    [("-1", None), ("4294967295", None), ("-2", "4294967294"), ("0", "0"), ("1000", "1000"), ("root", "root")],
)
@pytest.mark.parametrize("call", ["CHOWN", "FCHOWN", "LCHOWN", "FCHOWNAT"])
def test_an_owner_that_stays_is_no_id(call: str, sent: str, shown: str | None) -> None:
    found = seen(log(Data=f"syscall=SYS_{call} userid={sent} group={sent}")).attributes
    assert (found.get("file.owner.id"), found.get("file.group.id")) == (shown, shown)
