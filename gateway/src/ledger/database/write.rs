//! Writes: rows of the journal, what they add to the totals, and the mark, in one transaction.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
};

use tokio_postgres::{Client, Error, Transaction, types::ToSql};

use super::Database;
use crate::ledger::{
    Entry, LedgerError, Outcome,
    journal::Position,
    store::{HOUR, Sum, integer},
};

const RESUME: &str = "SELECT segment, position FROM quarterdeck.journal WHERE source = $1";

/// The mark moves from where it was known to be: of two processes with one journal only one goes on.
const MARK: &str = "
    INSERT INTO quarterdeck.journal AS known VALUES ($1, $2, $3)
    ON CONFLICT (source) DO UPDATE SET segment = excluded.segment, position = excluded.position
    WHERE known.segment = $4 AND known.position = $5
";

/// A row that has ended is never changed, so that a repeated write counts nothing twice. Says which rows were.
const WRITE: &str = r#"
    INSERT INTO quarterdeck.requests AS known (source, id, key, route, model, target, operation, outcome, team, "user",
        end_user, tags, status, prompt_tokens, completion_tokens, cached_tokens, cost_nanos, started_at_millis,
        first_byte_millis, duration_millis, is_estimated, is_streamed, is_kept)
    SELECT $1::text, rows.* FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
        $9::text[], $10::text[], $11::text[], $12::text[], $13::int[], $14::bigint[], $15::bigint[], $16::bigint[],
        $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bool[], $22::bool[], $23::bool[]) AS rows
    ON CONFLICT (id) DO UPDATE SET target = excluded.target, status = excluded.status, outcome = excluded.outcome,
        prompt_tokens = excluded.prompt_tokens, completion_tokens = excluded.completion_tokens,
        is_estimated = excluded.is_estimated, is_streamed = excluded.is_streamed,
        first_byte_millis = excluded.first_byte_millis, duration_millis = excluded.duration_millis,
        cached_tokens = excluded.cached_tokens, cost_nanos = excluded.cost_nanos, is_kept = excluded.is_kept
    WHERE known.outcome = 'open'
    RETURNING id
"#;

const ADD: &str = r#"
    INSERT INTO quarterdeck.usage AS known (route, key, model, team, "user", hour, requests, prompt_tokens,
        completion_tokens, cached_tokens, cost_nanos)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
        $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[])
    ON CONFLICT (key, model, route, hour, team, "user") DO UPDATE SET
        requests = known.requests + excluded.requests, prompt_tokens = known.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = known.completion_tokens + excluded.completion_tokens,
        cached_tokens = known.cached_tokens + excluded.cached_tokens,
        cost_nanos = known.cost_nanos + excluded.cost_nanos
"#;

const ADD_TAGS: &str = "
    INSERT INTO quarterdeck.tag_usage AS known (route, tag, model, hour, requests, prompt_tokens, completion_tokens,
        cached_tokens, cost_nanos)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
        $8::bigint[], $9::bigint[])
    ON CONFLICT (tag, model, route, hour) DO UPDATE SET
        requests = known.requests + excluded.requests, prompt_tokens = known.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = known.completion_tokens + excluded.completion_tokens,
        cached_tokens = known.cached_tokens + excluded.cached_tokens,
        cost_nanos = known.cost_nanos + excluded.cost_nanos
";

/// What a crash left open has ended: it is counted, with the tokens that are known of it.
const CLOSE_INTERRUPTED: &str = r#"
    WITH ended AS (
        UPDATE quarterdeck.requests SET outcome = 'interrupted' WHERE source = $1 AND outcome = 'open' RETURNING *
    ), counted AS (
        INSERT INTO quarterdeck.usage AS known (hour, route, key, model, team, "user", requests, prompt_tokens,
            completion_tokens, cached_tokens, cost_nanos)
        SELECT started_at_millis / 3600000, route, key, model, team, "user", count(*), sum(prompt_tokens)::bigint,
            sum(completion_tokens)::bigint, sum(cached_tokens)::bigint, sum(cost_nanos)::bigint
        FROM ended GROUP BY 1, 2, 3, 4, 5, 6
        ON CONFLICT (key, model, route, hour, team, "user") DO UPDATE SET
            requests = known.requests + excluded.requests,
            prompt_tokens = known.prompt_tokens + excluded.prompt_tokens,
            completion_tokens = known.completion_tokens + excluded.completion_tokens,
            cached_tokens = known.cached_tokens + excluded.cached_tokens,
            cost_nanos = known.cost_nanos + excluded.cost_nanos
    )
    INSERT INTO quarterdeck.tag_usage AS known (hour, route, tag, model, requests, prompt_tokens, completion_tokens,
        cached_tokens, cost_nanos)
    SELECT started_at_millis / 3600000, route, tag, model, count(*), sum(prompt_tokens)::bigint,
        sum(completion_tokens)::bigint, sum(cached_tokens)::bigint, sum(cost_nanos)::bigint
    FROM ended, jsonb_array_elements_text(ended.tags::jsonb) AS tag GROUP BY 1, 2, 3, 4
    ON CONFLICT (tag, model, route, hour) DO UPDATE SET
        requests = known.requests + excluded.requests, prompt_tokens = known.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = known.completion_tokens + excluded.completion_tokens,
        cached_tokens = known.cached_tokens + excluded.cached_tokens,
        cost_nanos = known.cost_nanos + excluded.cost_nanos
"#;

impl Database {
    /// Where the journal is to be read from, if that was not known: at the beginning, and after a failure that may or
    /// may not have written.
    ///
    /// # Errors
    /// The database is not there.
    pub(in crate::ledger) fn resume(&mut self) -> Result<Option<Position>, LedgerError> {
        if self.mark.is_some() {
            return Ok(None);
        }
        let source = self.source.clone();
        let row = self
            .run_again(&async |client: &mut Client| client.query_opt(RESUME, &[&source]).await)?;
        let position = row.map_or_else(Position::default, |row| Position {
            segment: u64::try_from(row.get::<_, i64>(0)).unwrap_or(0),
            offset: u64::try_from(row.get::<_, i64>(1)).unwrap_or(0),
        });
        self.mark = Some(position);
        Ok(self.mark)
    }

    /// Writes the journal's rows up to a position, in one transaction; all or none are there when it returns.
    ///
    /// # Errors
    /// The database does not take them, or says nothing of whether it did; [`Self::resume`] tells then.
    pub(in crate::ledger) fn write(
        &mut self,
        entries: &[Entry],
        end: Position,
    ) -> Result<(), LedgerError> {
        // Taken, so that it is unknown if this fails.
        let Some(mark) = self.mark.take() else {
            return Err(LedgerError::Storage("the mark is not known".to_owned()));
        };
        let batch = Batch::of(entries);
        let source = self.source.clone();
        let moved = self.run(async |client| batch.write(client, &source, mark, end).await)?;
        if !moved {
            let reason = "somebody else has taken rows of this journal";
            return Err(LedgerError::Storage(reason.to_owned()));
        }
        self.mark = Some(end);
        Ok(())
    }

    /// Closes what a crash left open.
    ///
    /// # Errors
    /// The database does not take it.
    pub(in crate::ledger) fn close_interrupted(&mut self) -> Result<(), LedgerError> {
        let source = self.source.clone();
        let closed = self.run(async |client| client.execute(CLOSE_INTERRUPTED, &[&source]).await);
        closed.map(|_| ())
    }
}

/// Rows with ids of their own, of which the last counts that comes before the end of its request, or ends it.
struct Batch<'a>(Vec<&'a Entry>);

impl<'a> Batch<'a> {
    fn of(entries: &'a [Entry]) -> Self {
        let mut rows: Vec<&Entry> = Vec::with_capacity(entries.len());
        let mut places: HashMap<&str, usize> = HashMap::with_capacity(entries.len());
        for entry in entries {
            match places.get(&*entry.id) {
                // One statement changes a row once.
                Some(place) if rows[*place].outcome == Outcome::Open => rows[*place] = entry,
                Some(_) => {}
                None => {
                    places.insert(&entry.id, rows.len());
                    rows.push(entry);
                }
            }
        }
        Self(rows)
    }

    /// Writes it; whether the mark was where it was thought to be.
    async fn write(
        &self,
        client: &mut Client,
        source: &str,
        mark: Position,
        end: Position,
    ) -> Result<bool, Error> {
        let transaction = client.transaction().await?;
        let [segment, position, from_segment, from_position] =
            [end.segment, end.offset, mark.segment, mark.offset].map(integer);
        let values: [&(dyn ToSql + Sync); 5] =
            [&source, &segment, &position, &from_segment, &from_position];
        if transaction.execute(MARK, &values).await? == 0 {
            return Ok(false);
        }
        let changed = self.write_rows(&transaction, source).await?;
        let ended = self
            .0
            .iter()
            .filter(|entry| entry.outcome != Outcome::Open && changed.contains(&*text(&entry.id)));
        add(&transaction, ended.copied()).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Writes the rows; those that were new or open before.
    async fn write_rows(
        &self,
        transaction: &Transaction<'_>,
        source: &str,
    ) -> Result<HashSet<String>, Error> {
        let texts = |of: fn(&Entry) -> &str| -> Vec<Cow<'_, str>> {
            self.0.iter().map(|entry| text(of(entry))).collect()
        };
        let numbers = |of: fn(&Entry) -> u64| -> Vec<i64> {
            self.0.iter().map(|entry| integer(of(entry))).collect()
        };
        let flags = |of: fn(&Entry) -> bool| -> Vec<bool> {
            self.0.iter().map(|entry| of(entry)).collect()
        };
        let statuses: Vec<i32> = self.0.iter().map(|entry| entry.status.into()).collect();
        let started = self.0.iter().map(|entry| entry.started_at.as_millisecond());
        let started: Vec<i64> = started.collect();
        let first = self
            .0
            .iter()
            .map(|entry| entry.first_byte_millis.map(integer));
        let first: Vec<Option<i64>> = first.collect();
        let tags: Vec<String> = self.0.iter().map(|entry| tags(entry)).collect();
        let written = transaction
            .query(
                WRITE,
                &[
                    &source,
                    &texts(|entry| &entry.id),
                    &texts(|entry| &entry.key),
                    &texts(|entry| &entry.route),
                    &texts(|entry| &entry.model),
                    &texts(|entry| &entry.target),
                    &texts(|entry| entry.operation.name()),
                    &texts(|entry| entry.outcome.word()),
                    &texts(|entry| &entry.team),
                    &texts(|entry| &entry.user),
                    &texts(|entry| &entry.end_user),
                    &tags,
                    &statuses,
                    &numbers(|entry| entry.tokens.prompt),
                    &numbers(|entry| entry.tokens.completion),
                    &numbers(|entry| entry.tokens.cached.unwrap_or(0)),
                    &numbers(|entry| entry.cost.nanos()),
                    &started,
                    &first,
                    &numbers(|entry| entry.duration_millis),
                    &flags(|entry| entry.is_estimated),
                    &flags(|entry| entry.is_streamed),
                    &flags(|entry| entry.is_kept),
                ],
            )
            .await?;
        Ok(written.iter().map(|row| row.get(0)).collect())
    }
}

/// Adds rows to the totals, in an order that all replicas keep: they wait for each other, never in a circle.
async fn add(
    transaction: &Transaction<'_>,
    entries: impl Iterator<Item = &Entry>,
) -> Result<(), Error> {
    let mut sums: BTreeMap<(i64, [Cow<'_, str>; 5]), Sum> = BTreeMap::new();
    let mut tag_sums: BTreeMap<(i64, [Cow<'_, str>; 3]), Sum> = BTreeMap::new();
    for entry in entries {
        let hour = entry.started_at.as_millisecond() / HOUR;
        let names = [
            &entry.route,
            &entry.key,
            &entry.model,
            &entry.team,
            &entry.user,
        ];
        let names = names.map(|name| text(name));
        sums.entry((hour, names)).or_default().add(entry);
        for tag in &entry.tags {
            let names = [&entry.route, tag, &entry.model].map(|name| text(name));
            tag_sums.entry((hour, names)).or_default().add(entry);
        }
    }
    if !sums.is_empty() {
        add_to(transaction, ADD, &sums).await?;
    }
    if !tag_sums.is_empty() {
        add_to(transaction, ADD_TAGS, &tag_sums).await?;
    }
    Ok(())
}

async fn add_to<const NAMES: usize>(
    transaction: &Transaction<'_>,
    statement: &str,
    sums: &BTreeMap<(i64, [Cow<'_, str>; NAMES]), Sum>,
) -> Result<(), Error> {
    let names: Vec<Vec<&str>> = (0..NAMES)
        .map(|place| sums.keys().map(|(_, names)| &*names[place]).collect())
        .collect();
    let numbers =
        |of: fn(&Sum) -> u64| -> Vec<i64> { sums.values().map(|sum| integer(of(sum))).collect() };
    let hours: Vec<i64> = sums.keys().map(|(hour, _)| *hour).collect();
    let numbers = [
        hours,
        numbers(|sum| sum.requests),
        numbers(|sum| sum.tokens.prompt),
        numbers(|sum| sum.tokens.completion),
        numbers(|sum| sum.cached),
        numbers(|sum| sum.cost.nanos()),
    ];
    let mut values: Vec<&(dyn ToSql + Sync)> = Vec::new();
    for names in &names {
        values.push(names);
    }
    for numbers in &numbers {
        values.push(numbers);
    }
    transaction.execute(statement, &values).await.map(|_| ())
}

/// A text as PostgreSQL takes it: without zeros, which it has no place for.
fn text(text: &str) -> Cow<'_, str> {
    match text.contains('\0') {
        true => Cow::Owned(text.replace('\0', "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}

fn tags(entry: &Entry) -> String {
    let tags: Vec<Cow<'_, str>> = entry.tags.iter().map(|tag| text(tag)).collect();
    // A list of texts serialises without fail.
    serde_json::to_string(&tags).unwrap_or_else(|_| "[]".to_owned())
}
