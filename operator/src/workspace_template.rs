//! WorkspaceTemplate: checked and counted; workspaces are made from it.

use std::sync::Arc;

use crds::{
    WorkspaceTemplate, WorkspaceTemplateStatus,
    condition::{ConditionKind, Reason},
};
use jiff::Timestamp;
use kube::{ResourceExt, runtime::reflector::Store};

use crate::{
    caches::Caches,
    conditions::{Judgement, Verdict},
    context::Context,
    controller::{Next, Reconciled},
    executor::ExecuteError,
    workspace::{template_hash, validate_template},
};

impl Reconciled for WorkspaceTemplate {
    const CONTROLLER: &'static str = "workspacetemplate";

    fn store(caches: &Caches) -> &Store<Self> {
        &caches.templates
    }

    async fn reconcile(template: Arc<Self>, context: Arc<Context>) -> Result<Next, ExecuteError> {
        let uses = context.caches.workspaces.state_filter(|workspace| {
            workspace.namespace() == template.namespace()
                && workspace.spec.template_ref.name == template.name_any()
        });
        let status = status(&template, uses.len(), Timestamp::now());
        context
            .tell(&*template, template.status.as_ref(), &status)
            .await?;
        Ok(Next::OnChange)
    }
}

fn status(template: &WorkspaceTemplate, uses: usize, now: Timestamp) -> WorkspaceTemplateStatus {
    let generation = template.metadata.generation.unwrap_or(0);
    let previous = template.status.clone().unwrap_or_default();
    let accepted = match validate_template(template) {
        Ok(()) => Verdict::holds(Reason::Accepted, ""),
        Err(invalid) => Verdict::stuck(Reason::Invalid, invalid.to_string()),
    };
    let judgement = Judgement::default().gate(ConditionKind::Accepted, accepted);
    WorkspaceTemplateStatus {
        observed_generation: generation,
        hash: Some(template_hash(template)),
        in_use: i32::try_from(uses).unwrap_or(i32::MAX),
        conditions: judgement.conclude(&previous.conditions, generation, now),
    }
}

#[cfg(test)]
mod tests {
    use crds::{WorkspaceTemplate, condition};
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::status;

    fn template(env: &Value) -> WorkspaceTemplate {
        let meta = json!({"name": "t", "namespace": "n", "generation": 1});
        let spec = json!({"image": "builtin://host", "env": env});
        serde_json::from_value(json!({"apiVersion": "quarterdeck.dev/v1alpha1", "kind": "WorkspaceTemplate", "metadata": meta, "spec": spec})).expect("a template")
    }

    #[test]
    fn a_template_is_checked_and_counted() {
        let good = status(
            &template(&json!([{"name": "LANG", "value": "C"}])),
            2,
            Timestamp::UNIX_EPOCH,
        );
        assert!(condition::is_ready(&good.conditions));
        assert_eq!(good.in_use, 2);
        let bad = status(
            &template(&json!([{"name": "HOME", "value": "/"}])),
            0,
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(
            bad.conditions[0].message,
            "spec.env[0].name: HOME is set by the workspace itself; remove it"
        );
        assert_ne!(good.hash, bad.hash);
    }
}
