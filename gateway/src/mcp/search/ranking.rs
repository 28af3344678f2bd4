//! Ranks tools by words: BM25 over their names, what they do, and the names of their arguments. Pure.

use std::collections::HashMap;

use serde_json::Value;

/// How soon more of one word says nothing more.
const SATURATION: f64 = 1.2;
/// How much long definitions are held against their tools.
const LENGTH: f64 = 0.75;
/// What a word in a tool's name counts.
const NAME: f64 = 3.0;
/// What a word in its title counts.
const TITLE: f64 = 2.0;
/// What a word in its description, or in the name of an argument, counts.
const PLAIN: f64 = 1.0;
/// Words of one definition.
const WORDS_MAX: usize = 2048;
/// Letters from which on a plural is taken for its singular.
const SINGULAR_MIN: usize = 4;

/// Tools, ready to be ranked.
#[derive(Debug)]
pub(super) struct Ranking {
    tools: Vec<Weights>,
    /// Tools that hold a word.
    holders: HashMap<String, f64>,
    average_length: f64,
}

/// The words of one tool.
#[derive(Debug, Default)]
struct Weights {
    by_word: HashMap<String, f64>,
    length: f64,
}

impl Weights {
    fn of(tool: &Value) -> Self {
        let mut weights = Self::default();
        let text = |field: &str| tool[field].as_str().unwrap_or_default();
        weights.add(text("name"), NAME);
        weights.add(text("title"), TITLE);
        weights.add(text("description"), PLAIN);
        let arguments = tool["inputSchema"]["properties"].as_object();
        for (name, schema) in arguments.into_iter().flatten() {
            weights.add(name, PLAIN);
            weights.add(
                schema["description"].as_str().unwrap_or_default(),
                PLAIN / 2.0,
            );
        }
        weights
    }

    fn add(&mut self, text: &str, weight: f64) {
        for word in words(text).into_iter().take(WORDS_MAX) {
            self.length += weight;
            *self.by_word.entry(word).or_default() += weight;
        }
    }
}

impl Ranking {
    /// The ranking of these definitions.
    pub(super) fn of(tools: &[Value]) -> Self {
        let tools: Vec<Weights> = tools.iter().map(Weights::of).collect();
        let mut holders: HashMap<String, f64> = HashMap::new();
        for word in tools.iter().flat_map(|tool| tool.by_word.keys()) {
            *holders.entry(word.clone()).or_default() += 1.0;
        }
        let length: f64 = tools.iter().map(|tool| tool.length).sum();
        Self {
            average_length: (length / tools.len().max(1) as f64).max(1.0),
            tools,
            holders,
        }
    }

    /// The places of the tools that hold a word of the query, the best first; all in their order if it has no words.
    pub(super) fn best(&self, query: &str) -> Vec<usize> {
        let query = words(query);
        if query.is_empty() {
            return (0..self.tools.len()).collect();
        }
        let mut scored: Vec<(f64, usize)> = self
            .tools
            .iter()
            .map(|tool| self.score(tool, &query))
            .enumerate()
            .filter(|(_, score)| 0.0 < *score)
            .map(|(place, score)| (score, place))
            .collect();
        scored.sort_by(|(left, before), (right, after)| {
            right.total_cmp(left).then(before.cmp(after))
        });
        scored.into_iter().map(|(_, place)| place).collect()
    }

    fn score(&self, tool: &Weights, query: &[String]) -> f64 {
        let count = self.tools.len() as f64;
        let length = 1.0 - LENGTH + LENGTH * tool.length / self.average_length;
        let scores = query.iter().filter_map(|word| {
            let weight = tool.by_word.get(word)?;
            let holders = self.holders.get(word)?;
            let rarity = (1.0 + (count - holders + 0.5) / (holders + 0.5)).ln();
            Some(rarity * weight * (SATURATION + 1.0) / (weight + SATURATION * length))
        });
        scores.sum()
    }
}

/// The words of a text: small, cut where letters and digits end and where a capital begins, without plural endings. Single
/// letters say nothing.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut was_small = false;
    for letter in text.chars() {
        let is_new = !letter.is_alphanumeric() || was_small && letter.is_uppercase();
        if is_new {
            words.push(std::mem::take(&mut word));
        }
        if letter.is_alphanumeric() {
            word.extend(letter.to_lowercase());
        }
        was_small = letter.is_lowercase();
    }
    words.push(word);
    words.retain(|word| 1 < word.chars().count());
    words.into_iter().map(singular).collect()
}

fn singular(mut word: String) -> String {
    if word.ends_with('s') && !word.ends_with("ss") && SINGULAR_MIN <= word.chars().count() {
        word.pop();
    }
    word
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Ranking, words};

    fn tools() -> Vec<Value> {
        vec![
            json!({"name": "tickets_create", "description": "Opens a ticket about a problem.",
                "inputSchema": {"properties": {"title": {}, "priority": {}}}}),
            json!({"name": "tickets_close", "description": "Closes a ticket."}),
            json!({"name": "mail_send", "description": "Sends a mail to somebody, perhaps about a ticket.",
                "inputSchema": {"properties": {"recipientAddress": {"description": "who gets it"}}}}),
            json!({"name": "weather_now", "description": "Tells the weather of a city."}),
            json!("no definition"),
        ]
    }

    #[track_caller]
    fn check(query: &str, expected: &[usize]) {
        assert_eq!(Ranking::of(&tools()).best(query), expected, "{query}");
    }

    #[test]
    fn tools_are_found_by_names_descriptions_and_arguments() {
        check("weather", &[3]);
        check("open a problem", &[0]);
        check("close ticket", &[1, 0, 2]);
        check("Ticket", &[1, 0, 2]);
        check("recipient", &[2]);
        check("who", &[2]);
        check("priority", &[0]);
        check("zebra", &[]);
        check(" - ", &[0, 1, 2, 3, 4]);
        assert_eq!(Ranking::of(&[]).best("x"), [0; 0]);
    }

    #[test]
    fn words_are_cut_where_names_are() {
        let check = |text: &str, expected: &[&str]| assert_eq!(words(text), expected, "{text}");
        check("listOpenTickets", &["list", "open", "ticket"]);
        check(
            "list_open-tickets2 (all)",
            &["list", "open", "tickets2", "all"],
        );
        check("HTTPServer class as", &["httpserver", "class", "as"]);
        check("Größe ändern", &["größe", "ändern"]);
        check("", &[]);
    }
}
