//! Files that the gateway keeps: whose they are, and that they are there when they were acknowledged.

use std::{fs, path::Path};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::harness::{Answer, Harness, key};

/// A form with a file.
pub(super) fn upload(purpose: &str, content: &str) -> String {
    format!(
        "--XX\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n{purpose}\r\n\
         --XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\n\
         Content-Type: application/jsonl\r\n\r\n{content}\r\n--XX--\r\n"
    )
}

impl Harness {
    pub(super) async fn upload(&self, key: &str, form: String) -> Answer {
        let kind = "multipart/form-data; boundary=XX";
        let body = Full::new(Bytes::from(form)).boxed_unsync();
        self.form("/v1/files", key, kind, body).await
    }
}

/// The contents in the data folder.
fn contents(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("files")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[tokio::test]
async fn a_file_is_kept_shown_and_deleted() {
    let harness = Harness::start(Vec::new(), vec![key("a")]).await;
    let file = harness.upload("qd-a", upload("batch", "one\ntwo\n")).await;
    assert_eq!(file.status, 200, "{}", file.text_body());
    let file = file.json();
    let id = file["id"].as_str().unwrap().to_owned();
    let expected = json!({"id": id, "object": "file", "bytes": 8, "created_at": file["created_at"],
        "filename": "a.jsonl", "purpose": "batch", "status": "processed"});
    assert_eq!(file, expected);
    // What was acknowledged survives.
    let harness = harness.crashed(Vec::new(), vec![key("a")]).await;
    let path = format!("/v1/files/{id}");
    assert_eq!(harness.get(&path, Some("qd-a")).await.json(), expected);
    let content = harness.get(&format!("{path}/content"), Some("qd-a")).await;
    assert_eq!(
        (
            content.text_body().as_str(),
            content.header("content-length").as_str()
        ),
        ("one\ntwo\n", "8")
    );
    let list = harness.get("/v1/files?purpose=batch", Some("qd-a")).await;
    let expected = json!({"object": "list", "data": [expected], "first_id": id, "last_id": id, "has_more": false});
    assert_eq!(list.json(), expected);
    let deleted = harness.delete(&path, Some("qd-a")).await;
    assert_eq!(
        deleted.json(),
        json!({"id": id, "object": "file", "deleted": true})
    );
    assert_eq!(
        harness.get(&path, Some("qd-a")).await.fault(),
        (404, "not_found".to_owned())
    );
    assert_eq!(contents(harness.folder()), Vec::<String>::new());
}

#[tokio::test]
async fn lists_come_in_pages() {
    let harness = Harness::start(Vec::new(), vec![key("a")]).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let file = harness
            .upload("qd-a", upload("user_data", "x"))
            .await
            .json();
        ids.insert(0, file["id"].as_str().unwrap().to_owned());
    }
    let page = |query: String| {
        let harness = &harness;
        async move {
            let list = harness
                .get(&format!("/v1/files?{query}"), Some("qd-a"))
                .await
                .json();
            let data = list["data"].as_array().unwrap().iter();
            let ids: Vec<String> = data
                .map(|file| file["id"].as_str().unwrap().to_owned())
                .collect();
            (ids, list["has_more"].clone())
        }
    };
    let first = page("limit=2".to_owned()).await;
    assert_eq!(first, (ids[..2].to_vec(), Value::Bool(true)));
    let rest = page(format!("limit=2&after={}", ids[1])).await;
    assert_eq!(rest, (ids[2..].to_vec(), Value::Bool(false)));
    ids.reverse();
    assert_eq!(page("order=asc".to_owned()).await.0, ids);
    assert_eq!(
        page("purpose=batch".to_owned()).await.0,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn a_file_is_there_for_its_key_only() {
    let harness = Harness::start(Vec::new(), vec![key("a"), key("b")]).await;
    let file = harness.upload("qd-a", upload("batch", "x")).await.json();
    let path = format!("/v1/files/{}", file["id"].as_str().unwrap());
    for path in [path.clone(), format!("{path}/content")] {
        assert_eq!(harness.get(&path, Some("qd-b")).await.status, 404);
        assert_eq!(harness.get(&path, None).await.status, 401);
    }
    assert_eq!(harness.delete(&path, Some("qd-b")).await.status, 404);
    assert_eq!(
        harness.get("/v1/files", Some("qd-b")).await.json()["data"],
        json!([])
    );
    assert_eq!(harness.get(&path, Some("qd-a")).await.status, 200);
}

#[tokio::test]
async fn what_is_no_upload_leaves_nothing() {
    let harness = Harness::start(Vec::new(), vec![key("a")]).await;
    let whole = upload("batch", "x");
    for (form, status) in [
        (whole.replace("--XX--\r\n", ""), 400),
        (whole.replace("\"purpose\"", "\"other\""), 400),
        (whole.replace("\"file\"", "\"other\""), 400),
        (upload("fun", "x"), 400),
        (whole.replace("--XX--", &upload("batch", "y")), 400),
        (upload("batch", &"x".repeat(5 << 20)), 413),
    ] {
        let answer = harness.upload("qd-a", form).await;
        assert_eq!(answer.status, status, "{}", answer.text_body());
    }
    assert_eq!(contents(harness.folder()), Vec::<String>::new());
}

#[tokio::test]
async fn a_key_may_have_so_many_bytes() {
    let harness = Harness::start(Vec::new(), vec![key("a"), key("b")]).await;
    let large = || upload("batch", &"x".repeat(3 << 20));
    assert_eq!(harness.upload("qd-a", large()).await.status, 200);
    let refused = harness.upload("qd-a", large()).await.fault();
    assert_eq!(refused, (429, "insufficient_quota".to_owned()));
    assert_eq!(harness.upload("qd-b", large()).await.status, 200);
    assert_eq!(contents(harness.folder()).len(), 2);
}

#[tokio::test]
async fn what_a_crash_left_is_removed_at_the_next_start() {
    let harness = Harness::start(Vec::new(), vec![key("a")]).await;
    harness.upload("qd-a", upload("batch", "x")).await;
    fs::write(harness.folder().join("files/file-left"), "x").unwrap();
    let harness = harness.crashed(Vec::new(), vec![key("a")]).await;
    assert_eq!(contents(harness.folder()).len(), 1);
}
