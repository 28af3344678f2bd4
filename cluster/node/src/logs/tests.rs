use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::line::{MESSAGE_BYTES_MAX, Splitter, Stream, format, parse};
use super::read::{LogQuery, read};
use super::*;

fn pod() -> PodId {
    PodId {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        uid: "u1".to_owned(),
    }
}

fn second(n: i64) -> Timestamp {
    Timestamp::from_second(1_000 + n).unwrap()
}

async fn text(mut receiver: mpsc::Receiver<Bytes>) -> String {
    let mut all = Vec::new();
    while let Some(bytes) = receiver.recv().await {
        all.extend_from_slice(&bytes);
    }
    String::from_utf8(all).unwrap()
}

async fn read_all(logs: &Logs, path: &Path, query: LogQuery) -> String {
    let (sender, receiver) = mpsc::channel(64);
    let reading = read(logs.clone(), path.to_owned(), query, sender);
    let (result, text) = tokio::join!(reading, text(receiver));
    result.unwrap();
    text
}

#[test]
fn a_line_survives_writing_and_reading() {
    let bytes = format(second(1), Stream::Stderr, false, b"a b  c");
    let line = parse(bytes.strip_suffix(b"\n").unwrap()).unwrap();
    assert_eq!(
        (line.stream, line.is_full, line.message),
        (Stream::Stderr, false, &b"a b  c"[..])
    );
    assert_eq!(line.time, second(1));
    assert_eq!(line.stamp, "1970-01-01T00:16:41.000000000Z");
    assert_eq!(parse(b"junk"), None);
}

#[test]
fn long_messages_are_cut_into_parts() {
    #[track_caller]
    fn check(length: usize, expected: &[(usize, bool)]) {
        let mut splitter = Splitter::default();
        let mut bytes = vec![b'x'; length];
        bytes.push(b'\n');
        let got: Vec<_> = splitter
            .feed(&bytes)
            .iter()
            .map(|(message, full)| (message.len(), *full))
            .collect();
        assert_eq!(got, expected);
        assert_eq!(splitter.finish(), None);
    }
    check(0, &[(0, true)]);
    check(MESSAGE_BYTES_MAX, &[(MESSAGE_BYTES_MAX, true)]);
    check(
        MESSAGE_BYTES_MAX + 1,
        &[(MESSAGE_BYTES_MAX, false), (1, true)],
    );
}

#[tokio::test]
async fn a_log_is_read_by_tail_time_size_and_stream() {
    let folder = tempfile::tempdir().unwrap();
    let logs = Logs::new(folder.path().to_owned());
    let mut file = logs.create(&pod(), "main", 0).unwrap().with_limit(100);
    for n in 0..6 {
        let stream = if n % 2 == 0 {
            Stream::Stdout
        } else {
            Stream::Stderr
        };
        file.write(&format(
            second(n),
            stream,
            true,
            format!("line {n}").as_bytes(),
        ));
    }
    drop(file);
    let path = logs.path(&pod(), "main", 0);
    assert!(series(&path).len() > 1, "the log was rotated");
    let check = async |change: fn(&mut LogQuery), expected: &str| {
        let mut query = LogQuery::default();
        change(&mut query);
        let got = read_all(&logs, &path, query.clone()).await;
        assert_eq!(got, expected, "{query:?}");
    };
    let all = "line 0\nline 1\nline 2\nline 3\nline 4\nline 5\n";
    let last = "1970-01-01T00:16:45.000000000Z line 5\n";
    check(|_| (), all).await;
    check(|q| q.tail_lines = Some(2), "line 4\nline 5\n").await;
    check(|q| q.tail_lines = Some(0), "").await;
    check(|q| q.since = Some(second(5)), "line 5\n").await;
    check(|q| q.limit_bytes = Some(9), "line 0\nli").await;
    let last_error = |q: &mut LogQuery| (q.stream, q.tail_lines) = (Some(Stream::Stderr), Some(1));
    check(last_error, "line 5\n").await;
    check(|q| (q.tail_lines, q.timestamps) = (Some(1), true), last).await;
}

#[tokio::test]
async fn following_sees_every_line_until_the_log_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let logs = Logs::new(folder.path().to_owned());
    let mut file = logs.create(&pod(), "main", 0).unwrap().with_limit(200);
    let path = logs.path(&pod(), "main", 0);
    let (sender, mut receiver) = mpsc::channel(64);
    let query = LogQuery {
        follow: true,
        ..LogQuery::default()
    };
    let reading = read(logs.clone(), path, query, sender);
    let writing = async {
        let mut got = String::new();
        for n in 0..20 {
            file.write(&format(
                second(n),
                Stream::Stdout,
                true,
                format!("{n}").as_bytes(),
            ));
            let line = receiver.recv().await.unwrap();
            got.push_str(std::str::from_utf8(&line).unwrap());
        }
        drop(file);
        assert_eq!(receiver.recv().await, None);
        got
    };
    let (result, got) = tokio::join!(reading, writing);
    result.unwrap();
    assert_eq!(got, (0..20).map(|n| format!("{n}\n")).collect::<String>());
}

#[tokio::test]
async fn logs_before_the_previous_attempt_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let logs = Logs::new(folder.path().to_owned());
    for attempt in 0..3 {
        drop(logs.create(&pod(), "main", attempt).unwrap());
    }
    let exists = |attempt| logs.path(&pod(), "main", attempt).exists();
    assert_eq!([exists(0), exists(1), exists(2)], [false, true, true]);
}
