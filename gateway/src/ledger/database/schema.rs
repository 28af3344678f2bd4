//! The ledger's tables in PostgreSQL, in a schema of their own.

use tokio_postgres::{Client, Error};

/// Who makes the tables while others wait; any number that nobody else uses.
const LOCK: i64 = 0x7164_6c65_6467;

/// What makes the tables of each version from those of the version before.
const MIGRATIONS: [&str; 1] = [r#"
    CREATE SCHEMA IF NOT EXISTS quarterdeck;
    CREATE TABLE quarterdeck.version (id INTEGER PRIMARY KEY CHECK (id = 1), number BIGINT NOT NULL);
    CREATE TABLE quarterdeck.journal (
        source TEXT PRIMARY KEY,
        segment BIGINT NOT NULL,
        position BIGINT NOT NULL
    );
    CREATE TABLE quarterdeck.requests (
        id TEXT COLLATE "C" PRIMARY KEY,
        source TEXT NOT NULL,
        key TEXT NOT NULL,
        route TEXT NOT NULL,
        model TEXT NOT NULL,
        target TEXT NOT NULL,
        operation TEXT NOT NULL,
        status INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        prompt_tokens BIGINT NOT NULL,
        completion_tokens BIGINT NOT NULL,
        cached_tokens BIGINT NOT NULL,
        cost_nanos BIGINT NOT NULL,
        is_estimated BOOLEAN NOT NULL,
        is_streamed BOOLEAN NOT NULL,
        is_kept BOOLEAN NOT NULL,
        started_at_millis BIGINT NOT NULL,
        first_byte_millis BIGINT,
        duration_millis BIGINT NOT NULL,
        team TEXT NOT NULL,
        "user" TEXT NOT NULL,
        end_user TEXT NOT NULL,
        tags TEXT NOT NULL
    );
    CREATE INDEX requests_open ON quarterdeck.requests (source) WHERE outcome = 'open';
    CREATE TABLE quarterdeck.usage (
        hour BIGINT NOT NULL,
        route TEXT NOT NULL,
        key TEXT NOT NULL,
        model TEXT NOT NULL,
        team TEXT NOT NULL,
        "user" TEXT NOT NULL,
        requests BIGINT NOT NULL,
        prompt_tokens BIGINT NOT NULL,
        completion_tokens BIGINT NOT NULL,
        cached_tokens BIGINT NOT NULL,
        cost_nanos BIGINT NOT NULL,
        PRIMARY KEY (key, model, route, hour, team, "user")
    );
    CREATE INDEX usage_by_team ON quarterdeck.usage (team, hour) WHERE team != '';
    CREATE INDEX usage_by_user ON quarterdeck.usage ("user", hour) WHERE "user" != '';
    CREATE INDEX usage_by_route ON quarterdeck.usage (route, hour);
    CREATE TABLE quarterdeck.tag_usage (
        hour BIGINT NOT NULL,
        route TEXT NOT NULL,
        tag TEXT NOT NULL,
        model TEXT NOT NULL,
        requests BIGINT NOT NULL,
        prompt_tokens BIGINT NOT NULL,
        completion_tokens BIGINT NOT NULL,
        cached_tokens BIGINT NOT NULL,
        cost_nanos BIGINT NOT NULL,
        PRIMARY KEY (tag, model, route, hour)
    );
    CREATE INDEX tag_usage_by_route ON quarterdeck.tag_usage (route, hour);
    INSERT INTO quarterdeck.version VALUES (1, 0);
"#];

/// Makes the tables, or those of a newer version; whoever may only write needs tables that are there.
pub(super) async fn make(client: &mut Client) -> Result<(), Error> {
    let newest = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if newest <= version(client).await? {
        return Ok(());
    }
    let transaction = client.transaction().await?;
    // Replicas that start together make them one after the other.
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    let known = version(transaction.client()).await?;
    for (index, migration) in (0_i64..).zip(MIGRATIONS) {
        if known <= index {
            transaction.batch_execute(migration).await?;
            let mark = "UPDATE quarterdeck.version SET number = $1";
            transaction.execute(mark, &[&(index + 1)]).await?;
        }
    }
    transaction.commit().await
}

async fn version(client: &Client) -> Result<i64, Error> {
    let there = "SELECT to_regclass('quarterdeck.version') IS NOT NULL";
    let is_there: bool = client.query_one(there, &[]).await?.get(0);
    if !is_there {
        return Ok(0);
    }
    let query = "SELECT number FROM quarterdeck.version";
    let row = client.query_opt(query, &[]).await?;
    Ok(row.map_or(0, |row| row.get(0)))
}
