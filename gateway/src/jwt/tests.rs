//! Which tokens are taken.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use protocol::snapshot::{Access, Jwt, RouteEntry, TokenIssuer};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};
use testkit::scripted_model::ScriptedModel;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};

use super::{
    Issuer, JwtArgs,
    keys::KeySet,
    token::{Expected, Rejected, check, is_token},
};
use crate::tests::harness::{Harness, chat, key, route, target};

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key of an issuer, and its name.
struct Signer {
    pair: EcdsaKeyPair,
    id: &'static str,
}

impl Signer {
    fn new(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        let pair = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            document.unwrap().as_ref(),
            &random,
        );
        let pair = pair.unwrap();
        Self { pair, id }
    }

    fn published(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "x": encode(&point[1..33]),
            "y": encode(&point[33..])})
    }

    fn keys(&self) -> KeySet {
        KeySet::parse(json!({"keys": [self.published()]}).to_string().as_bytes()).unwrap()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!(
            "{}.{}",
            encode(header.to_string()),
            encode(claims.to_string())
        );
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes());
        format!("{message}.{}", encode(signature.unwrap()))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "ES256", "kid": self.id}), claims)
    }
}

const NOW: i64 = 1_800_000_000;

fn claims() -> Value {
    json!({"iss": "https://login.example", "aud": "gateway", "sub": "ann", "team": "eng", "exp": NOW + 600})
}

fn expected() -> Expected {
    Expected {
        issuer: "https://login.example".to_owned(),
        audience: "gateway".to_owned(),
    }
}

#[track_caller]
fn check_token(token: &str, keys: &KeySet, taken: Result<(), Rejected>) {
    let now = Timestamp::from_second(NOW).unwrap();
    let checked = check(token, keys, &expected(), now).map(|_| ());
    assert_eq!(checked, taken, "{token}");
}

#[test]
fn a_token_is_taken_if_its_issuer_signed_it_for_us_and_its_time_is_not_over() {
    let signer = Signer::new("a");
    let keys = signer.keys();
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        signer.token(&claims)
    };
    check_token(&signer.token(&claims()), &keys, Ok(()));
    check_token(&with("aud", json!(["other", "gateway"])), &keys, Ok(()));
    check_token(&with("nbf", json!(NOW + 30)), &keys, Ok(()));
    check_token(&with("exp", json!(NOW - 30)), &keys, Ok(()));
    check_token(&with("exp", json!(NOW - 60)), &keys, Err(Rejected::Expired));
    for (name, value) in [
        ("iss", json!("https://login.example.evil")),
        ("aud", json!("gateway2")),
        ("aud", json!([])),
        ("aud", Value::Null),
        ("nbf", json!(NOW + 120)),
    ] {
        check_token(&with(name, value), &keys, Err(Rejected::Invalid));
    }
    let mut endless = claims();
    endless.as_object_mut().unwrap().remove("exp");
    check_token(&signer.token(&endless), &keys, Err(Rejected::Invalid));
}

#[test]
fn a_token_that_somebody_else_signed_is_not_taken() {
    let (signer, other) = (Signer::new("a"), Signer::new("a"));
    let keys = signer.keys();
    let token = signer.token(&claims());
    check_token(&other.token(&claims()), &keys, Err(Rejected::Invalid));
    check_token(
        &Signer::new("b").token(&claims()),
        &keys,
        Err(Rejected::UnknownKey),
    );
    for header in [
        json!({"alg": "none", "kid": "a"}),
        json!({"alg": "HS256", "kid": "a"}),
        // A key of another kind than the token says.
        json!({"alg": "RS256", "kid": "a"}),
        json!({"alg": "ES256", "kid": "a", "crit": ["x"]}),
    ] {
        check_token(
            &signer.sign(&header, &claims()),
            &keys,
            Err(Rejected::Invalid),
        );
    }
    let (message, _) = token.rsplit_once('.').unwrap();
    check_token(&format!("{message}."), &keys, Err(Rejected::Invalid));
    let mut changed = claims();
    changed["sub"] = json!("root");
    let parts: Vec<&str> = token.split('.').collect();
    let forged = format!("{}.{}.{}", parts[0], encode(changed.to_string()), parts[2]);
    check_token(&forged, &keys, Err(Rejected::Invalid));
    for wrong in ["", "..", "ey.ey.ey", "a.b"] {
        check_token(wrong, &keys, Err(Rejected::Invalid));
    }
    assert!(is_token(&token) && !is_token("qd-123") && !is_token("ey.x"));
}

/// The example of RFC 7515, A.2: a signature of RSA's that others have made.
#[test]
fn a_signature_of_rsa_is_checked() {
    let keys = json!({"keys": [{"kty": "RSA", "e": "AQAB", "n": concat!(
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yR",
        "T-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBd",
        "QOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGN",
        "j8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ")}]});
    let keys = KeySet::parse(keys.to_string().as_bytes()).unwrap();
    let message = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let signature = concat!(
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9",
        "uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_",
        "eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt",
        "5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    );
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let algorithm = super::keys::Algorithm::Rs256;
    assert!(keys.verifies(None, algorithm, message.as_bytes(), &signature));
    assert!(!keys.verifies(None, algorithm, &message.as_bytes()[1..], &signature));
}

/// An issuer that answers every request with what it was last told.
async fn published(
    keys: std::sync::Arc<parking_lot::Mutex<Value>>,
    tasks: &mut JoinSet<()>,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await.unwrap();
            let body = keys.lock().to_string();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    url
}

#[tokio::test]
async fn a_token_opens_routes_and_is_counted_for_its_user_and_its_team() {
    let mut tasks = JoinSet::new();
    let signer = Signer::new("first");
    let keys = std::sync::Arc::new(parking_lot::Mutex::new(json!({"keys": []})));
    let url = published(std::sync::Arc::clone(&keys), &mut tasks).await;
    let issuer = Issuer::of(JwtArgs {
        jwt_issuer: Some(expected().issuer),
        jwt_audience: Some(expected().audience),
        jwt_keys_url: Some(url.parse().unwrap()),
        jwt_user_claim: "sub".to_owned(),
        jwt_team_claim: "team".to_owned(),
    });
    let model = ScriptedModel::start(vec!["x".into()]).await;
    let harness = Harness::with_issuer(issuer).await;
    harness.apply(
        vec![route("m", vec![target("own", "m", &[&model])])],
        Vec::new(),
    );
    let mut claims = claims();
    claims["exp"] = json!(Timestamp::now().as_second() + 600);
    let token = signer.token(&claims);
    // The key is published after the start: the first token that names it makes the gateway look.
    *keys.lock() = json!({"keys": [signer.published()]});
    let post = async |token: &str| {
        let answer = harness
            .post("/v1/chat/completions", Some(token), &chat("m", false))
            .await;
        answer.status
    };
    assert_eq!(post(&token).await, 200);
    let row: (String, String, String) = harness
        .query("SELECT key, team, user FROM requests", |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .await;
    assert_eq!(
        [row.0, row.1, row.2],
        ["jwt:ann", "eng", "ann"].map(str::to_owned)
    );

    // Blocking the team blocks the token.
    harness
        .admin(
            "POST",
            "/admin/v1/teams",
            &json!({"id": "eng", "blocked": true}),
        )
        .await;
    assert_eq!(post(&token).await, 401);
    // A name that nobody has does not make the gateway ask again at once.
    *keys.lock() = json!({"keys": []});
    assert_eq!(post(&Signer::new("second").token(&claims)).await, 401);
    harness
        .admin("POST", "/admin/v1/teams/eng/unblock", &Value::Null)
        .await;
    assert_eq!(post(&token).await, 200);
}

#[tokio::test]
async fn a_token_of_a_routes_issuer_opens_that_route_for_its_teams_and_no_other() {
    let mut tasks = JoinSet::new();
    let signer = Signer::new("first");
    let published_keys = json!({"keys": [signer.published()]});
    let keys = std::sync::Arc::new(parking_lot::Mutex::new(published_keys));
    let url = published(keys, &mut tasks).await;
    let trusting = |teams: &[&str]| {
        Some(Jwt {
            issuer: TokenIssuer {
                issuer: expected().issuer,
                audience: expected().audience,
                keys_url: Some(url.clone()),
                user_claim: "sub".to_owned(),
                team_claim: "team".to_owned(),
            },
            teams: teams.iter().map(|team| (*team).to_owned()).collect(),
        })
    };
    let model = ScriptedModel::start(vec!["x".into()]).await;
    let entry = |name: &str, jwt, access| RouteEntry {
        jwt,
        access,
        ..route(name, vec![target("own", "m", &[&model])])
    };
    let closed = || Access::Keys(Vec::new());
    let routes = vec![
        entry("all", trusting(&[]), closed()),
        entry("eng", trusting(&["ops", "eng"]), closed()),
        entry("ops", trusting(&["ops"]), closed()),
        entry("keys", None, Access::AnyKey),
    ];
    let harness = Harness::start(routes, vec![key("a")]).await;
    let mut claims = claims();
    claims["exp"] = json!(Timestamp::now().as_second() + 600);
    let token = signer.token(&claims);
    let ask = async |name: &str, token: &str| {
        let body = chat(name, false);
        let path = "/v1/chat/completions";
        harness.post(path, Some(token), &body).await.status
    };
    // The first token makes the gateway look for the issuer's keys.
    for (name, expected) in [("all", 200), ("eng", 200), ("ops", 404), ("keys", 404)] {
        assert_eq!(ask(name, &token).await, expected, "{name}");
    }
    claims["iss"] = json!("https://evil.example");
    assert_eq!(ask("all", &signer.token(&claims)).await, 401);
    assert_eq!(ask("keys", "qd-a").await, 200);
    assert_eq!(ask("all", "qd-a").await, 404);
    let account: String = harness
        .query("SELECT key FROM requests LIMIT 1", |row| row.get(0))
        .await;
    // Nobody is taken for a user of the same name of another issuer's.
    assert!(
        account.starts_with("jwt:") && account.ends_with(":ann"),
        "{account}"
    );
    assert_ne!(account, "jwt:ann");
}
