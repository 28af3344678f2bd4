//! Changes that meet on two replicas.

use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;

use super::PAGE;
use crate::people::{Filter, Kind, People, Record, Spec};

struct Replica {
    people: People,
    _folder: TempDir,
}

fn replica() -> Replica {
    let folder = tempfile::tempdir().unwrap();
    Replica {
        people: People::open(folder.path(), false, Arc::default()).unwrap(),
        _folder: folder,
    }
}

impl Replica {
    fn put(&self, id: &str, alias: &str) {
        self.put_all(std::iter::once((id.to_owned(), alias.to_owned())));
    }

    fn put_all(&self, mut teams: impl Iterator<Item = (String, String)>) {
        self.people.open_store().unwrap();
        let put = self.people.edit("t", |edit| {
            teams.try_for_each(|(id, alias)| {
                let spec = Spec {
                    alias: Some(alias),
                    ..Spec::default()
                };
                let record = Record::new(Kind::Team, id, spec, None);
                edit.put(record, "create", &Value::Null).map(drop)
            })
        });
        put.unwrap();
    }

    fn delete(&self, id: &str) {
        let delete = self.people.edit("t", |edit| {
            let record = edit.get(Kind::Team, id)?;
            edit.delete(&record)
        });
        delete.unwrap();
    }

    /// Takes the changes of another one.
    fn take(&self, other: &Self) {
        loop {
            let (store, after) = self.people.cursor("other");
            let page = other.people.changes_after(&store, after).unwrap();
            let has_more = page.has_more;
            self.people.heed("other", page).unwrap();
            if !has_more {
                return;
            }
        }
    }

    /// Ids and aliases.
    fn teams(&self) -> Vec<(String, Option<String>)> {
        let all = Filter::default();
        let listed = self
            .people
            .edit("t", |edit| edit.list(Kind::Team, &all, usize::MAX));
        let listed = listed.unwrap().into_iter();
        listed
            .map(|record| (record.id, record.spec.alias))
            .collect()
    }
}

#[track_caller]
fn check(replicas: [&Replica; 2], expected: &[(&str, Option<&str>)]) {
    let owned = |(id, alias): &(&str, Option<&str>)| ((*id).to_owned(), alias.map(str::to_owned));
    let expected: Vec<_> = expected.iter().map(owned).collect();
    for replica in replicas {
        assert_eq!(replica.teams(), expected);
    }
}

#[test]
fn the_later_of_two_changes_counts_on_both_and_what_is_deleted_stays_so() {
    let (first, second) = (replica(), replica());
    first.put("x", "made");
    second.take(&first);
    first.put("x", "earlier");
    second.put("x", "later");
    first.take(&second);
    second.take(&first);
    check([&first, &second], &[("x", Some("later"))]);
    second.put("y", "other");
    first.delete("x");
    second.take(&first);
    first.take(&second);
    check([&first, &second], &[("y", Some("other"))]);
    // What was deleted can be made again.
    second.put("x", "again");
    first.take(&second);
    check(
        [&first, &second],
        &[("x", Some("again")), ("y", Some("other"))],
    );
}

#[test]
fn of_two_with_one_alias_the_first_by_id_keeps_it_on_both() {
    let (first, second) = (replica(), replica());
    first.put("a", "same");
    second.put("b", "same");
    first.take(&second);
    second.take(&first);
    check([&first, &second], &[("a", Some("same")), ("b", None)]);
}

#[test]
fn more_than_a_page_of_changes_is_taken_and_another_file_is_begun_anew() {
    let (first, second) = (replica(), replica());
    first.put_all((0..=PAGE).map(|number| (format!("t{number:04}"), format!("a{number}"))));
    second.take(&first);
    assert_eq!(second.teams(), first.teams());
    let fresh = replica();
    fresh.put("fresh", "f");
    second.take(&fresh);
    assert_eq!(second.teams().len(), PAGE + 2);
}
