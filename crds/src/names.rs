//! Labels, annotations and names that the parts agree on.

/// The namespace of the operator and the data planes, unless the chart is told otherwise.
pub const SYSTEM_NAMESPACE: &str = "quarterdeck-system";
/// The field manager of everything that the operator applies.
pub const FIELD_MANAGER: &str = "quarterdeck-operator";
/// The label that says who manages an object.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY_LABEL`] on what the operator makes.
pub const MANAGED_BY: &str = "quarterdeck";
/// The label that says which component a Pod of the system belongs to: `gateway`, `agents`, `operator`.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// The label with the Model's name on its children.
pub const MODEL_LABEL: &str = "quarterdeck.dev/model";
/// The label with the Agent's name on its children.
pub const AGENT_LABEL: &str = "quarterdeck.dev/agent";
/// The label with the Workspace's name on its children.
pub const WORKSPACE_LABEL: &str = "quarterdeck.dev/workspace";
/// The label with the hash of the Pod's specification, by which pods of the current revision are counted.
pub const REVISION_LABEL: &str = "quarterdeck.dev/revision";
/// The label of ConfigMaps with prompts, whatever its value: others are not read.
pub const PROMPTS_LABEL: &str = "quarterdeck.dev/prompts";
/// The label of Secrets that hold a gateway key.
pub const API_KEY_LABEL: &str = "quarterdeck.dev/api-key";
/// The annotation of a gateway key's Secret with the team that it is counted for.
pub const TEAM_ANNOTATION: &str = "quarterdeck.dev/team";
/// The annotation of a gateway key's Secret with the user that it is counted for.
pub const USER_ANNOTATION: &str = "quarterdeck.dev/user";
/// The annotation of a gateway key's Secret with tags of all its requests, with commas between them.
pub const TAGS_ANNOTATION: &str = "quarterdeck.dev/tags";
/// The annotation of a gateway key's Secret with its models, budgets and limits, as YAML.
pub const ALLOWANCE_ANNOTATION: &str = "quarterdeck.dev/allowance";
/// The condition of a Pod that says what its node enforces, or why it does not.
pub const ISOLATION_CONDITION: &str = "quarterdeck.dev/isolation";
/// The Secret's key with a gateway key in plain text.
pub const KEY_FIELD: &str = "key";
/// The Secret's key with the hash of a gateway key.
pub const KEY_HASH_FIELD: &str = "hash";
/// The Secret's key with the time after which a gateway key is refused.
pub const KEY_EXPIRES_FIELD: &str = "expires";
/// The Secret's key with the token of a workspace's gate.
pub const TOKEN_FIELD: &str = "token";
