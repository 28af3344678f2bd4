//! The roles and bindings that every cluster starts with.

use serde_json::{Value, json};

/// A shelf and the objects that it starts with.
pub(crate) fn objects() -> Vec<(&'static str, Value)> {
    let mut objects: Vec<(&'static str, Value)> = cluster_roles()
        .into_iter()
        .map(|role| ("clusterroles", role))
        .collect();
    objects.extend(
        cluster_role_bindings()
            .into_iter()
            .map(|binding| ("clusterrolebindings", binding)),
    );
    objects
}

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

fn role(name: &str, rules: &[Value]) -> Value {
    json!({"metadata": metadata(name), "rules": rules})
}

fn aggregated(name: &str, into: &str, rules: &[Value]) -> Value {
    let mut role = role(name, rules);
    role["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{into}")] =
        json!("true");
    role
}

/// A role whose rules are those of the roles that are labelled for it.
fn aggregate(name: &str) -> Value {
    let mut role = role(name, &[]);
    let label = format!("rbac.authorization.k8s.io/aggregate-to-{name}");
    role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
    // A larger role has all that a smaller one has.
    match name {
        "edit" => {
            role["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"] =
                json!("true")
        }
        "view" => {
            role["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"] =
                json!("true")
        }
        _ => {}
    }
    role
}

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    })
}

fn cluster_roles() -> Vec<Value> {
    let mut roles = vec![
        json!({
            "metadata": metadata("cluster-admin"),
            "rules": [rule(&["*"], &["*"], &["*"]), {"nonResourceURLs": ["*"], "verbs": ["*"]}],
        }),
        json!({
            "metadata": metadata("system:discovery"),
            "rules": [{
                "nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version", "/version/"],
                "verbs": ["get"],
            }],
        }),
        json!({
            "metadata": metadata("system:public-info-viewer"),
            "rules": [{"nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version", "/version/"], "verbs": ["get"]}],
        }),
        json!({
            "metadata": metadata("system:service-account-issuer-discovery"),
            "rules": [{"nonResourceURLs": ["/.well-known/openid-configuration", "/openid/v1/jwks"], "verbs": ["get"]}],
        }),
        role(
            "system:basic-user",
            &[
                rule(
                    &["authorization.k8s.io"],
                    &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
                    &["create"],
                ),
                rule(
                    &["authentication.k8s.io"],
                    &["selfsubjectreviews"],
                    &["create"],
                ),
            ],
        ),
        role(
            "system:auth-delegator",
            &[
                rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
                rule(
                    &["authorization.k8s.io"],
                    &["subjectaccessreviews"],
                    &["create"],
                ),
            ],
        ),
        aggregate("admin"),
        aggregate("edit"),
        aggregate("view"),
    ];
    roles.extend(user_facing());
    roles
}

const APPS_RESOURCES: &[&str] = &[
    "controllerrevisions",
    "daemonsets",
    "deployments",
    "deployments/scale",
    "replicasets",
    "replicasets/scale",
    "statefulsets",
    "statefulsets/scale",
];

fn user_facing() -> Vec<Value> {
    let status_of = |names: &[&str]| {
        names
            .iter()
            .map(|name| format!("{name}/status"))
            .collect::<Vec<_>>()
    };
    let apps_status = status_of(&["daemonsets", "deployments", "replicasets", "statefulsets"]);
    let apps_status: Vec<&str> = apps_status.iter().map(String::as_str).collect();
    vec![
        aggregated(
            "system:aggregate-to-admin",
            "admin",
            &[
                rule(
                    &["authorization.k8s.io"],
                    &["localsubjectaccessreviews"],
                    &["create"],
                ),
                rule(
                    &["rbac.authorization.k8s.io"],
                    &["rolebindings", "roles"],
                    &[READ, WRITE].concat(),
                ),
            ],
        ),
        aggregated(
            "system:aggregate-to-edit",
            "edit",
            &[
                rule(
                    &[""],
                    &[
                        "pods/attach",
                        "pods/exec",
                        "pods/portforward",
                        "pods/proxy",
                        "secrets",
                        "services/proxy",
                    ],
                    READ,
                ),
                rule(&[""], &["serviceaccounts"], &["impersonate"]),
                rule(
                    &[""],
                    &[
                        "pods",
                        "pods/attach",
                        "pods/exec",
                        "pods/portforward",
                        "pods/proxy",
                    ],
                    WRITE,
                ),
                rule(
                    &[""],
                    &["pods/eviction", "serviceaccounts/token"],
                    &["create"],
                ),
                rule(
                    &[""],
                    &[
                        "configmaps",
                        "events",
                        "persistentvolumeclaims",
                        "replicationcontrollers",
                        "replicationcontrollers/scale",
                        "secrets",
                        "serviceaccounts",
                        "services",
                        "services/proxy",
                    ],
                    WRITE,
                ),
                rule(&["apps"], APPS_RESOURCES, WRITE),
                rule(&["autoscaling"], &["horizontalpodautoscalers"], WRITE),
                rule(&["batch"], &["cronjobs", "jobs"], WRITE),
                rule(&["policy"], &["poddisruptionbudgets"], WRITE),
                rule(
                    &["networking.k8s.io"],
                    &["ingresses", "networkpolicies"],
                    WRITE,
                ),
                rule(
                    &["coordination.k8s.io"],
                    &["leases"],
                    &[READ, WRITE].concat(),
                ),
            ],
        ),
        aggregated(
            "system:aggregate-to-view",
            "view",
            &[
                rule(
                    &[""],
                    &[
                        "configmaps",
                        "endpoints",
                        "persistentvolumeclaims",
                        "persistentvolumeclaims/status",
                        "pods",
                        "pods/log",
                        "pods/status",
                        "replicationcontrollers",
                        "replicationcontrollers/scale",
                        "replicationcontrollers/status",
                        "serviceaccounts",
                        "services",
                        "services/status",
                        "bindings",
                        "events",
                        "limitranges",
                        "namespaces/status",
                        "resourcequotas",
                        "resourcequotas/status",
                        "namespaces",
                    ],
                    READ,
                ),
                rule(&["discovery.k8s.io"], &["endpointslices"], READ),
                rule(&["apps"], APPS_RESOURCES, READ),
                rule(&["apps"], &apps_status, READ),
                rule(
                    &["autoscaling"],
                    &[
                        "horizontalpodautoscalers",
                        "horizontalpodautoscalers/status",
                    ],
                    READ,
                ),
                rule(
                    &["batch"],
                    &["cronjobs", "cronjobs/status", "jobs", "jobs/status"],
                    READ,
                ),
                rule(
                    &["policy"],
                    &["poddisruptionbudgets", "poddisruptionbudgets/status"],
                    READ,
                ),
                rule(
                    &["networking.k8s.io"],
                    &["ingresses", "ingresses/status", "networkpolicies"],
                    READ,
                ),
            ],
        ),
    ]
}

fn cluster_role_bindings() -> Vec<Value> {
    let binding = |name: &str, role: &str, groups: &[&str]| {
        let subject = |group: &&str| json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": group});
        json!({
            "metadata": metadata(name),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": groups.iter().map(subject).collect::<Vec<_>>(),
        })
    };
    vec![
        binding("cluster-admin", "cluster-admin", &["system:masters"]),
        binding(
            "system:discovery",
            "system:discovery",
            &["system:authenticated"],
        ),
        binding(
            "system:basic-user",
            "system:basic-user",
            &["system:authenticated"],
        ),
        binding(
            "system:public-info-viewer",
            "system:public-info-viewer",
            &["system:authenticated", "system:unauthenticated"],
        ),
        binding(
            "system:service-account-issuer-discovery",
            "system:service-account-issuer-discovery",
            &["system:serviceaccounts"],
        ),
    ]
}
