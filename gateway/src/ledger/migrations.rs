//! The versions of the ledger's file.

/// What makes the file of each version from that of the version before.
pub(super) const MIGRATIONS: [&str; 4] = [
    // One row a request; totals of what has ended, by key and model, kept in the same transactions.
    "
    CREATE TABLE IF NOT EXISTS requests (
        id TEXT PRIMARY KEY,
        key TEXT NOT NULL,
        route TEXT NOT NULL,
        model TEXT NOT NULL,
        target TEXT NOT NULL,
        operation TEXT NOT NULL,
        status INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        is_estimated INTEGER NOT NULL,
        is_streamed INTEGER NOT NULL,
        started_at_millis INTEGER NOT NULL,
        first_byte_millis INTEGER,
        duration_millis INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS requests_open ON requests (id) WHERE outcome = 'open';
    CREATE TABLE IF NOT EXISTS totals (
        key TEXT NOT NULL,
        model TEXT NOT NULL,
        requests INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        PRIMARY KEY (key, model)
    ) STRICT, WITHOUT ROWID;
    ",
    // How far the journal was taken; costs; totals by the hour.
    "
    CREATE TABLE journal (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        segment INTEGER NOT NULL,
        position INTEGER NOT NULL
    ) STRICT;
    ALTER TABLE requests ADD COLUMN cached_tokens INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE requests ADD COLUMN cost_nanos INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE usage (
        hour INTEGER NOT NULL,
        route TEXT NOT NULL,
        key TEXT NOT NULL,
        model TEXT NOT NULL,
        requests INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        cost_nanos INTEGER NOT NULL,
        PRIMARY KEY (key, model, route, hour)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO usage SELECT started_at_millis / 3600000, route, key, model, count(*), sum(prompt_tokens),
        sum(completion_tokens), 0, 0 FROM requests WHERE outcome != 'open' GROUP BY 1, 2, 3, 4;
    DROP TABLE totals;
    ",
    // Answers that were given again.
    "
    ALTER TABLE requests ADD COLUMN is_kept INTEGER NOT NULL DEFAULT 0;
    ",
    // Whom requests are counted for: teams, users, tags.
    "
    ALTER TABLE requests ADD COLUMN team TEXT NOT NULL DEFAULT '';
    ALTER TABLE requests ADD COLUMN user TEXT NOT NULL DEFAULT '';
    ALTER TABLE requests ADD COLUMN end_user TEXT NOT NULL DEFAULT '';
    ALTER TABLE requests ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE usage RENAME TO usage_before;
    CREATE TABLE usage (
        hour INTEGER NOT NULL,
        route TEXT NOT NULL,
        key TEXT NOT NULL,
        model TEXT NOT NULL,
        team TEXT NOT NULL,
        user TEXT NOT NULL,
        requests INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        cost_nanos INTEGER NOT NULL,
        PRIMARY KEY (key, model, route, hour, team, user)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO usage SELECT hour, route, key, model, '', '', requests, prompt_tokens, completion_tokens,
        cached_tokens, cost_nanos FROM usage_before;
    DROP TABLE usage_before;
    CREATE INDEX usage_by_team ON usage (team, hour) WHERE team != '';
    CREATE INDEX usage_by_user ON usage (user, hour) WHERE user != '';
    CREATE INDEX usage_by_route ON usage (route, hour);
    CREATE TABLE tag_usage (
        hour INTEGER NOT NULL,
        route TEXT NOT NULL,
        tag TEXT NOT NULL,
        model TEXT NOT NULL,
        requests INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        cost_nanos INTEGER NOT NULL,
        PRIMARY KEY (tag, model, route, hour)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tag_usage_by_route ON tag_usage (route, hour);
    ",
];
