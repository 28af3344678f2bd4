//! Rows as people and programs read them.

use serde_json::{Value, json};

use super::{Row, Target, keep, results_folder, table};

#[track_caller]
fn check(target: Target, ours: f64, peer: f64, expected: bool) {
    let row = Row::new("work", "unit", ours)
        .against("peer", peer)
        .must_reach(target);
    assert_eq!(row.is_reached, Some(expected), "{target}, {ours}, {peer}");
}

#[test]
fn a_promise_includes_its_bound() {
    check(Target::RatioAtLeast(2.0), 4.0, 2.0, true);
    check(Target::RatioAtLeast(2.0), 3.9, 2.0, false);
    check(Target::RatioAtMost(0.25), 1.0, 4.0, true);
    check(Target::RatioAtMost(0.25), 1.1, 4.0, false);
    check(Target::AtLeast(60.0), 60.0, 0.0, true);
    check(Target::AtLeast(60.0), 59.9, 0.0, false);
    check(Target::AtMost(0.5), 0.5, 9.0, true);
    check(Target::AtMost(0.5), 0.6, 9.0, false);
}

#[test]
fn a_ratio_that_nobody_measured_is_not_reached() {
    let row = Row::new("work", "unit", 1.0).must_reach(Target::RatioAtLeast(1.0));
    assert_eq!(row.is_reached, Some(false));
}

#[test]
fn columns_are_as_wide_as_their_widest_cell() {
    let rows = [
        Row::new("decode, 1 stream", "tok/s", 250.04)
            .against("peer", 125.0)
            .must_reach(Target::RatioAtLeast(1.7)),
        Row::new("start", "s", 0.25),
    ];
    let expected = "\
work              unit   ours  peer  ratio  must reach
decode, 1 stream  tok/s   250   125  2.00x  ≥ 1.7x      reached
start             s      0.25
";
    assert_eq!(table(&rows), expected);
}

#[test]
fn a_report_says_when_where_and_what() {
    let folder = tempfile::tempdir().unwrap();
    let row = Row::new("decode", "tok/s", 3.0)
        .against("llama.cpp", 1.5)
        .must_reach(Target::RatioAtLeast(1.7));
    keep("shape", &[row], folder.path()).unwrap();
    let text = std::fs::read_to_string(folder.path().join("shape.json")).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    check_shape(&report);
    let expected = json!([{
        "work": "decode", "unit": "tok/s", "ours": 3.0, "peer": 1.5, "peer_name": "llama.cpp", "ratio": 2.0,
        "must_reach": "≥ 1.7x", "is_reached": true,
    }]);
    assert_eq!(report["rows"], expected);
}

#[test]
fn kept_reports_have_the_shape() {
    for entry in std::fs::read_dir(results_folder()).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        check_shape(&serde_json::from_str(&text).unwrap());
    }
}

#[track_caller]
fn check_shape(report: &Value) {
    for name in ["name", "date", "commit", "machine"] {
        let text = report[name].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{name} is missing in {report}");
    }
    let rows = report["rows"].as_array().expect("no rows");
    assert!(!rows.is_empty());
    for row in rows {
        assert!(row["work"].is_string() && row["unit"].is_string(), "{row}");
        assert!(row["ours"].is_number(), "{row}");
        let has_peer = row["peer"].is_number();
        assert_eq!(row["ratio"].is_number(), has_peer, "{row}");
        assert_eq!(row["peer_name"].is_string(), has_peer, "{row}");
    }
}
