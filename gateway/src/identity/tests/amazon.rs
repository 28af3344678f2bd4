//! Keys of Amazon's that end: for roles, from the agent of EKS, and signatures with them.

use http::{HeaderMap, HeaderValue, Uri, header};
use jiff::{Timestamp, ToSpan};
use protocol::provider::{Credential, Provider, Role, Workload};
use serde_json::json;
use testkit::scripted_server::{Asked, Reply, ScriptedServer};

use super::{ask, fields, lent, own_identity, pairs, secret, start, target, token_file};
use crate::{
    identity::{IdentityArgs, amazon::element},
    provider::Signer,
};

const ROLE: &str = "arn:aws:iam::111122223333:role/models";

fn bedrock() -> Provider {
    Provider::Bedrock {
        region: "eu-west-1".to_owned(),
    }
}

fn ends() -> String {
    let end = Timestamp::now().checked_add(1.hour()).unwrap();
    end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The answer of the service that gives keys for roles, as it writes it.
fn role_keys(action: &str) -> Reply {
    let ends = ends();
    let body = format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <{action}Result>\n    \
         <AssumedRoleUser><Arn>arn</Arn><AssumedRoleId>AROA:x</AssumedRoleId></AssumedRoleUser>\n    <Credentials>\n      \
         <AccessKeyId>ASIAROLE</AccessKeyId>\n      <SecretAccessKey>role&amp;secret</SecretAccessKey>\n      \
         <SessionToken>role-token</SessionToken>\n      <Expiration>{ends}</Expiration>\n    </Credentials>\n  \
         </{action}Result>\n</{action}Response>"
    );
    Reply::text(200, &body).with("content-type", "text/xml")
}

/// Bedrock, the service for roles at `/`, and an agent at `/agent`.
async fn amazon() -> ScriptedServer {
    ScriptedServer::start(|asked| {
        if asked.path == "/agent" {
            let body = json!({
                "AccessKeyId": "ASIAAGENT", "SecretAccessKey": "agent-secret",
                "Token": "agent-token", "Expiration": ends(),
            });
            return Reply::json(200, &body);
        }
        if asked.path == "/" {
            let form = asked.text();
            let action = ["AssumeRoleWithWebIdentity", "AssumeRole"]
                .into_iter()
                .find(|action| form.starts_with(&format!("Action={action}&")));
            return role_keys(action.unwrap_or_default());
        }
        let body = json!({
            "output": {"message": {"role": "assistant", "content": [{"text": "hello"}]}}, "stopReason": "end_turn",
            "usage": {"inputTokens": 3, "outputTokens": 1, "totalTokens": 4},
        });
        Reply::json(200, &body)
    })
    .await
}

/// Checks that a request is signed with these keys, by signing what came again.
#[track_caller]
fn check_signature(
    at: &ScriptedServer,
    asked: &Asked,
    keys: (&str, &str, Option<&str>),
    service: &'static str,
) {
    let (id, key, token) = keys;
    let pair = (&secret(id), &secret(key));
    let token = token.map(secret);
    let signer = Signer::new(pair, token.as_ref(), "eu-west-1", service).unwrap();
    let now = asked.header("x-amz-date");
    let now = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", now).unwrap();
    let now = now.to_datetime().unwrap().in_tz("UTC").unwrap().timestamp();
    let mut headers = HeaderMap::new();
    let content_type = HeaderValue::from_str(asked.header("content-type")).unwrap();
    headers.insert(header::CONTENT_TYPE, content_type);
    let uri: Uri = at.url(&asked.path).parse().unwrap();
    signer.sign((&asked.method, &uri), &mut headers, &asked.body, now);
    assert_eq!(asked.header("authorization"), headers["authorization"]);
    let shown = token.as_ref().map_or("", |token| token.expose());
    assert_eq!(asked.header("x-amz-security-token"), shown);
}

fn asked_of_bedrock(server: &ScriptedServer) -> Asked {
    let mut asked = server.asked();
    asked.retain(|asked| asked.path.starts_with("/model/"));
    asked.pop().unwrap()
}

#[tokio::test]
async fn a_role_that_trusts_the_pods_token_gives_keys_that_sign() {
    let server = amazon().await;
    let folder = tempfile::tempdir().unwrap();
    let args = IdentityArgs {
        aws_role_arn: Some("arn:aws:iam::1:role/of-the-pod".to_owned()),
        aws_web_identity_token_file: token_file(&folder, "pod-token\n"),
        aws_endpoint_url_sts: Some(server.url("/")),
        ..lent()
    };
    let named = Workload {
        role_arn: Some(ROLE.to_owned()),
        ..Workload::default()
    };
    for (workload, role) in [
        (named, ROLE),
        (Workload::default(), "arn:aws:iam::1:role/of-the-pod"),
    ] {
        let target = target(&server, bedrock(), own_identity(workload));
        let harness = start(args.clone(), target).await;
        for _ in 0..2 {
            let (status, text) = ask(&harness).await;
            assert_eq!(status, 200, "{text}");
        }
        let asked = server.asked_for("/").pop().unwrap();
        assert_eq!(
            fields(&asked),
            pairs(&[
                ("Action", "AssumeRoleWithWebIdentity"),
                ("Version", "2011-06-15"),
                ("RoleArn", role),
                ("RoleSessionName", "quarterdeck-ns"),
                ("WebIdentityToken", "pod-token"),
            ])
        );
        assert_eq!(asked.header("authorization"), "");
        let keys = ("ASIAROLE", "role&secret", Some("role-token"));
        check_signature(&server, &asked_of_bedrock(&server), keys, "bedrock");
    }
    assert_eq!(server.asked_for("/").len(), 2);
}

#[tokio::test]
async fn the_agent_beside_the_pod_gives_keys_that_sign_or_take_a_role() {
    let server = amazon().await;
    let folder = tempfile::tempdir().unwrap();
    let args = IdentityArgs {
        aws_container_credentials_full_uri: Some(server.url("/agent")),
        aws_container_authorization_token_file: token_file(&folder, "agent-shown"),
        aws_endpoint_url_sts: Some(server.url("/")),
        ..lent()
    };
    let plain = target(&server, bedrock(), own_identity(Workload::default()));
    let harness = start(args.clone(), plain).await;
    assert_eq!(ask(&harness).await.0, 200);
    let asked = server.asked_for("/agent").pop().unwrap();
    assert_eq!(asked.header("authorization"), "agent-shown");
    let keys = ("ASIAAGENT", "agent-secret", Some("agent-token"));
    check_signature(&server, &asked_of_bedrock(&server), keys, "bedrock");

    let named = Workload {
        role_arn: Some(ROLE.to_owned()),
        ..Workload::default()
    };
    let harness = start(args, target(&server, bedrock(), own_identity(named))).await;
    assert_eq!(ask(&harness).await.0, 200);
    let asked = server.asked_for("/").pop().unwrap();
    check_signature(&server, &asked, keys, "sts");
    let keys = ("ASIAROLE", "role&secret", Some("role-token"));
    check_signature(&server, &asked_of_bedrock(&server), keys, "bedrock");
}

#[tokio::test]
async fn keys_of_a_secret_take_a_role() {
    let server = amazon().await;
    let args = IdentityArgs {
        aws_endpoint_url_sts: Some(server.url("/")),
        ..IdentityArgs::default()
    };
    let credential = Credential::Aws {
        access_key_id: secret("AKID"),
        secret_access_key: secret("hush"),
        session_token: None,
        role: Some(Role {
            arn: ROLE.to_owned(),
            external_id: Some(secret("known-to-both")),
        }),
    };
    let harness = start(args, target(&server, bedrock(), credential)).await;
    assert_eq!(ask(&harness).await.0, 200);
    let asked = server.asked_for("/").pop().unwrap();
    assert_eq!(
        fields(&asked),
        pairs(&[
            ("Action", "AssumeRole"),
            ("Version", "2011-06-15"),
            ("RoleArn", ROLE),
            ("RoleSessionName", "quarterdeck-ns"),
            ("ExternalId", "known-to-both"),
        ])
    );
    check_signature(&server, &asked, ("AKID", "hush", None), "sts");
    let keys = ("ASIAROLE", "role&secret", Some("role-token"));
    check_signature(&server, &asked_of_bedrock(&server), keys, "bedrock");
}

#[tokio::test]
async fn a_role_that_trusts_nobody_is_a_refusal() {
    let refusal = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>";
    let server = ScriptedServer::start(move |_| Reply::text(403, refusal)).await;
    let folder = tempfile::tempdir().unwrap();
    let args = IdentityArgs {
        aws_web_identity_token_file: token_file(&folder, "pod-token"),
        aws_endpoint_url_sts: Some(server.url("/")),
        ..lent()
    };
    let named = Workload {
        role_arn: Some(ROLE.to_owned()),
        ..Workload::default()
    };
    let harness = start(args, target(&server, bedrock(), own_identity(named))).await;
    let (status, text) = ask(&harness).await;
    assert_eq!(status, 502);
    assert!(text.contains("refused the gateway's credential"), "{text}");
    assert!(server.asked().iter().all(|asked| asked.path == "/"));
}

#[tokio::test]
async fn what_an_agent_is_shown_stays_near() {
    for (url, is_near) in [
        ("http://169.254.170.23/v1/credentials", true),
        ("http://[fd00:ec2::23]/v1/credentials", true),
        ("http://127.0.0.1:1/x", true),
        ("http://169.254.169.254/latest", false),
        ("http://10.0.0.1/x", false),
        ("https://example/x", false),
        ("file:///x", false),
    ] {
        let found = crate::identity::amazon::agent(url);
        assert_eq!(found.is_ok(), is_near, "{url}");
    }
}

#[test]
fn elements_are_read_as_they_are_written() {
    for (text, expected) in [
        ("<A><Code>x</Code></A>", Some("x")),
        ("<Code>a&amp;lt;&lt;&quot;</Code>", Some("a&lt;<\"")),
        ("<Code></Code>", Some("")),
        ("<Code>x", None),
        ("", None),
    ] {
        assert_eq!(element(text, "Code").as_deref(), expected, "{text}");
    }
}
