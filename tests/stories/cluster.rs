//! The real kubectl against the embedded cluster: a transcript of what people do all day.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::harness::{PATIENCE, Stack, checked, read_all, run, until};

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: worker, namespace: default, labels: {app: worker}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: builtin://host
    command: [sh, -c, "echo first; sleep 1; echo second; exec sleep 3600"]
"#;

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: "builtin://host", command: [sh, -c, "exec sleep 3600"]}
"#;

#[test]
fn kubectl_applies_reads_watches_explains_and_deletes() -> Result<()> {
    let stack = Stack::start()?;
    applying(&stack)?;
    reading(&stack)?;
    changing(&stack)?;
    identities(&stack)?;
    deleting(&stack)
}

fn applying(stack: &Stack) -> Result<()> {
    let route = stack.path("route.yaml");
    fs::write(&route, stack.example("route")?).context("writing the manifest")?;
    let file = route.display().to_string();
    ensure!(stack.kubectl(&["apply", "-f", &file])?.contains("created"));
    ensure!(
        stack
            .kubectl(&["apply", "-f", &file])?
            .contains("unchanged")
    );
    ensure!(
        stack
            .kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &file])?
            .contains("serverside-applied")
    );
    ensure!(
        run(stack.kubectl_command().args(["diff", "-f", &file]))?
            .status
            .code()
            == Some(0)
    );
    let changed = stack
        .example("route")?
        .replacen("kind: Route", "kind: Route\n# changed", 1)
        .replacen("models: [", "models: [extra, ", 1);
    fs::write(&route, changed).context("changing the manifest")?;
    let diff = run(stack.kubectl_command().args(["diff", "-f", &file]))?;
    ensure!(
        diff.status.code() == Some(1)
            && String::from_utf8_lossy(&diff.stdout).contains("+    - extra"),
        "{diff:?}"
    );
    ensure!(
        stack
            .kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &file])?
            .contains("serverside-applied")
    );
    stack.apply(DEPLOYMENT)?;
    stack.apply(POD)?;
    stack.wait_for("pod/worker", "Ready", PATIENCE)?;
    stack.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    Ok(())
}

fn reading(stack: &Stack) -> Result<()> {
    let table = stack.kubectl(&["get", "pods"])?;
    let header = table.lines().next().unwrap_or_default();
    ensure!(
        header
            .split_whitespace()
            .eq(["NAME", "READY", "STATUS", "RESTARTS", "AGE"]),
        "{table}"
    );
    ensure!(
        table.lines().any(|line| line.starts_with("worker")
            && line.contains("1/1")
            && line.contains("Running")),
        "{table}"
    );
    ensure!(
        stack
            .kubectl(&["get", "route", "smollm2", "-o", "yaml"])?
            .contains("apiVersion: quarterdeck.dev/v1alpha1")
    );
    ensure!(
        stack
            .kubectl(&["describe", "pod", "worker"])?
            .contains("Started"),
        "describe shows no events"
    );
    let explained = stack.kubectl(&["explain", "model.spec"])?;
    ensure!(
        explained.contains("FIELDS") && explained.contains("source"),
        "{explained}"
    );
    let resources = stack.kubectl(&["api-resources"])?;
    for word in ["models", "mdl", "deployments", "workspacetemplates"] {
        ensure!(resources.contains(word), "api-resources has no {word}");
    }
    ensure!(
        stack
            .kubectl(&["get", "quarterdeck", "-o", "name"])?
            .contains("route.quarterdeck.dev/smollm2")
    );
    following(stack)?;
    watching(stack)?;
    executing(stack)?;
    forwarding(stack)
}

/// `logs -f` gives lines as they come.
fn following(stack: &Stack) -> Result<()> {
    let mut logs = stack
        .kubectl_command()
        .args(["logs", "-f", "worker"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(logs.stdout.take().context("no output")?).lines();
    let seen: Vec<String> = lines.by_ref().take(2).collect::<Result<_, _>>()?;
    logs.kill()
        .and_then(|()| logs.wait())
        .context("ending kubectl logs")?;
    ensure!(seen == ["first", "second"], "{seen:?}");
    ensure!(stack.kubectl(&["logs", "worker", "--tail=1"])?.trim() == "second");
    Ok(())
}

/// `get -w` shows a change that happens while it watches.
fn watching(stack: &Stack) -> Result<()> {
    let mut watch = stack.kubectl_command();
    let mut watch = watch
        .args(["get", "configmaps", "-w", "--output-watch-events"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(watch.stdout.take().context("no output")?).lines();
    let header = lines.next().context("no header")??;
    ensure!(header.starts_with("EVENT"), "{header}");
    stack.kubectl(&["create", "configmap", "seen", "--from-literal=a=b"])?;
    let added = lines
        .by_ref()
        .map_while(Result::ok)
        .find(|line| line.contains("seen"));
    stack.kubectl(&["delete", "configmap", "seen"])?;
    let deleted = lines
        .map_while(Result::ok)
        .find(|line| line.contains("DELETED"));
    watch
        .kill()
        .and_then(|()| watch.wait())
        .context("ending kubectl get")?;
    ensure!(added.is_some_and(|line| line.starts_with("ADDED")));
    ensure!(deleted.is_some_and(|line| line.contains("seen")));
    Ok(())
}

/// `exec` passes streams and the exit code.
fn executing(stack: &Stack) -> Result<()> {
    ensure!(
        stack
            .kubectl(&["exec", "worker", "--", "sh", "-c", "echo out; echo err >&2"])?
            .trim()
            == "out"
    );
    let failed = run(stack
        .kubectl_command()
        .args(["exec", "worker", "--", "sh", "-c", "exit 7"]))?;
    ensure!(failed.status.code() == Some(7), "{failed:?}");
    let mut cat = stack.kubectl_command();
    let mut cat = cat
        .args(["exec", "-i", "worker", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    cat.stdin
        .take()
        .context("no input")?
        .write_all(b"through the sandbox")?;
    let output = read_all(cat.stdout.take().context("no output")?)?;
    ensure!(
        cat.wait()?.success() && output == "through the sandbox",
        "{output:?}"
    );
    Ok(())
}

/// `port-forward` to the gateway's Pod carries HTTP.
fn forwarding(stack: &Stack) -> Result<()> {
    let mut forward = stack.kubectl_command();
    forward.args([
        "port-forward",
        "-n",
        "quarterdeck-system",
        "deployment/quarterdeck-gateway",
        ":8080",
    ]);
    let mut forward = forward.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(forward.stdout.take().context("no output")?).lines();
    let line = lines
        .next()
        .context("kubectl port-forward says nothing")??;
    let port: u16 = line
        .split("127.0.0.1:")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .context(line.clone())?
        .parse()?;
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    forward
        .kill()
        .and_then(|()| forward.wait())
        .context("ending kubectl port-forward")?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

fn changing(stack: &Stack) -> Result<()> {
    stack.kubectl(&["scale", "deployment/web", "--replicas=2"])?;
    stack.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    ensure!(
        stack.kubectl(&[
            "get",
            "deployment",
            "web",
            "-o",
            "jsonpath={.status.readyReplicas}"
        ])? == "2"
    );
    stack.kubectl(&["set", "env", "deployment/web", "COLOUR=blue"])?;
    stack.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    stack.kubectl(&["rollout", "undo", "deployment/web"])?;
    stack.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    let editor = "sed -i s/COLOUR/COLOR/g";
    let mut edit = stack.kubectl_command();
    checked(
        edit.env("KUBE_EDITOR", editor)
            .args(["edit", "deployment/web"]),
    )?;
    stack.kubectl(&[
        "patch",
        "deployment",
        "web",
        "-p",
        "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}",
    ])?;
    stack.kubectl(&[
        "patch",
        "route",
        "smollm2",
        "--type=merge",
        "-p",
        "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}",
    ])?;
    stack.kubectl(&["label", "route", "smollm2", "c=d"])?;
    ensure!(
        stack
            .kubectl(&["get", "routes", "-l", "a=b,c in (d,e)", "-o", "name"])?
            .contains("smollm2")
    );
    stack.apply(&stack.example("model")?)?;
    stack.kubectl(&["scale", "model/smollm2", "--replicas=0"])?;
    ensure!(stack.kubectl(&["get", "model", "smollm2", "-o", "jsonpath={.spec.replicas}"])? == "0");
    stack.wait_for("model/smollm2", "Ready", PATIENCE)?;
    // A child that somebody changes is put right again.
    stack.kubectl(&["scale", "deployment/smollm2", "--replicas=3"])?;
    until(PATIENCE, "the operator to repair the Deployment", || {
        let replicas = stack.kubectl(&[
            "get",
            "deployment",
            "smollm2",
            "-o",
            "jsonpath={.spec.replicas}",
        ])?;
        ensure!(replicas == "0", "{replicas}");
        Ok(())
    })
}

fn identities(stack: &Stack) -> Result<()> {
    ensure!(
        stack
            .kubectl(&["auth", "can-i", "delete", "models"])?
            .trim()
            == "yes"
    );
    let output = run(stack.kubectl_command().args([
        "auth",
        "can-i",
        "delete",
        "models",
        "--as=system:serviceaccount:default:default",
    ]))?;
    ensure!(
        String::from_utf8_lossy(&output.stdout).trim() == "no",
        "{output:?}"
    );
    stack.kubectl(&["create", "serviceaccount", "reader"])?;
    stack.kubectl(&[
        "create",
        "rolebinding",
        "reader",
        "--clusterrole=view",
        "--serviceaccount=default:reader",
    ])?;
    let token = stack.kubectl(&["create", "token", "reader"])?;
    let token = token.trim();
    ensure!(token.split('.').count() == 3, "{token}");
    let mut list = stack.kubectl_command();
    list.args(["get", "configmaps", "--token", token, "--kubeconfig"])
        .arg(without_token(stack)?);
    checked(&mut list)?;
    let mut create = stack.kubectl_command();
    create
        .args([
            "create",
            "configmap",
            "no",
            "--token",
            token,
            "--kubeconfig",
        ])
        .arg(without_token(stack)?);
    let refused = run(&mut create)?;
    ensure!(
        String::from_utf8_lossy(&refused.stderr).contains("forbidden"),
        "{refused:?}"
    );
    Ok(())
}

/// The kubeconfig without the administrator's credentials.
fn without_token(stack: &Stack) -> Result<std::path::PathBuf> {
    let text =
        fs::read_to_string(stack.path("data/kubeconfig")).context("reading the kubeconfig")?;
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("token:") && !line.contains("client-"))
        .collect();
    let path = stack.path("kubeconfig-without-token");
    fs::write(&path, kept.join("\n")).context("writing the kubeconfig")?;
    Ok(path)
}

fn deleting(stack: &Stack) -> Result<()> {
    stack.kubectl(&["delete", "model", "smollm2", "--timeout=60s"])?;
    until(PATIENCE, "the model's children to be collected", || {
        let left = stack.kubectl(&[
            "get",
            "deployments,services,persistentvolumeclaims",
            "-l",
            "quarterdeck.dev/model=smollm2",
            "-o",
            "name",
        ])?;
        ensure!(left.is_empty(), "left: {left}");
        Ok(())
    })?;
    stack.kubectl(&["delete", "pod", "worker", "--timeout=60s"])?;
    stack.kubectl(&["create", "namespace", "short"])?;
    stack.kubectl(&["create", "configmap", "inside", "-n", "short"])?;
    stack.kubectl(&["delete", "namespace", "short", "--timeout=60s"])?;
    let gone = run(stack.kubectl_command().args(["get", "namespace", "short"]))?;
    ensure!(
        String::from_utf8_lossy(&gone.stderr).contains("NotFound"),
        "{gone:?}"
    );
    Ok(())
}
