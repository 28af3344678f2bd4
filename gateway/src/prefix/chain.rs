//! Chains: the hashes of a prompt's prefixes, each one block longer than the one before.
//!
//! Two chains agree in their first `n` hashes exactly when the canonical texts of the prompts agree in their first `n`
//! blocks, and model, adapter and tenant are the same (up to collisions of 64-bit hashes). The canonical text is the
//! prompt's fields in the order in which chat templates write them, tools before messages:
//!
//! - All of every message counts: role, content, tool calls, names, whatever else it holds. Fields outside of the prompt
//!   (temperature, user, stream) do not.
//! - White space between JSON tokens does not count. Escapes stay as they are written: `"\u0061"` and `"a"` differ.
//! - The order of the members of a message, of one of its content parts and of a tool does not count, up to
//!   [`MEMBERS_MAX`] of them; that of deeper members, as in a tool's parameters, does.
//! - `cache_control` of a message, a part or a tool does not count: it marks places for a cache and is no text, and
//!   clients move it with every turn.
//!
//! What two prompts share is known in whole blocks, so a prompt under one block has an empty chain.

use crate::{
    prefix::blocks::{BLOCKS_MAX, Blocks, fold, hash},
    scan::Scanner,
};

/// The fields of a chat request that make its prompt, in the prompt's order.
pub(crate) const CHAT: &[&str] = &["tools", "messages"];
/// The fields of a completion request that make its prompt.
pub(crate) const COMPLETION: &[&str] = &["prompt"];
/// The fields of a request of `/v1/responses` that make its prompt.
pub(crate) const RESPONSE: &[&str] = &["instructions", "tools", "input"];
/// The fields of a request of `/v1/messages` that make its prompt.
pub(crate) const MESSAGE: &[&str] = &["tools", "system", "messages"];

/// Members of one object whose order does not count; an object with more is taken as it is written.
const MEMBERS_MAX: usize = 16;
/// Arrays in arrays whose objects are sorted: messages, the parts of a content, the parts of a tool result among them.
const LEVELS: usize = 3;
/// The member that is no part of a prompt.
const MARK: &[u8] = b"\"cache_control\"";

/// What prompts must share before a single byte of theirs is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed(u64);

impl Seed {
    /// The seed for prompts to this model with this adapter; replicas share no cache between tenants' salts.
    pub(crate) fn new(model: &str, adapter: Option<&str>, tenant: &str) -> Self {
        let adapter = adapter.map_or(0, |adapter| fold(1, hash(adapter.as_bytes())));
        let named = fold(hash(model.as_bytes()), adapter);
        Self(fold(named, hash(tenant.as_bytes())))
    }
}

/// The hashes of a prompt's prefixes, shortest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    hashes: Vec<u64>,
    bytes: usize,
}

impl Chain {
    /// The hashes.
    pub(super) fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// The length of the canonical text, which may be more than what is hashed.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The chain of the prompt in a request's body, made of these fields; empty if the body is not an object. Takes any
/// bytes, in linear time.
pub(crate) fn chain(body: &[u8], fields: &[&str], seed: Seed) -> Chain {
    let mut texts: Vec<Blocks> = fields.iter().map(|_| Blocks::default()).collect();
    let mut scanner = Scanner::new(body);
    if scanner.pass_if(b'{') {
        while let Some(name) = next_name(&mut scanner) {
            let name = name.get(1..name.len().saturating_sub(1));
            let is_field = |field: &&str| name == Some(field.as_bytes());
            match fields.iter().position(is_field) {
                Some(field) => {
                    // Of two equal fields engines believe the last.
                    texts[field] = Blocks::default();
                    push_field(&mut scanner, &mut texts[field]);
                }
                None => {
                    scanner.value();
                }
            }
        }
    }
    link(&texts, seed)
}

/// Chains the blocks of all texts. The rest of a text that another one follows is a block too: what comes after it can
/// only be equal if it is.
fn link(texts: &[Blocks], seed: Seed) -> Chain {
    let mut hashes = Vec::new();
    let mut last = seed.0;
    for (index, text) in texts.iter().enumerate() {
        hashes.reserve(text.hashes().len() + 1);
        for block in text.hashes() {
            last = fold(last, *block);
            hashes.push(last);
        }
        if index + 1 < texts.len() {
            last = fold(last, text.rest_hash());
            if 0 < text.bytes() {
                hashes.push(last);
            }
        }
    }
    hashes.truncate(BLOCKS_MAX);
    let bytes = texts.iter().map(Blocks::bytes).sum();
    Chain { hashes, bytes }
}

/// The name of an object's next member, as it is written; passes the colon. `None` at the end.
fn next_name<'a>(scanner: &mut Scanner<'a>) -> Option<&'a [u8]> {
    loop {
        match scanner.peek()? {
            b'"' => {
                let name = scanner.string();
                scanner.pass_if(b':');
                return Some(name);
            }
            b'}' => {
                scanner.pass();
                return None;
            }
            _ => scanner.pass(),
        }
    }
}

/// Adds the value of a field. What closes it is left out, so that a conversation's text begins with the text of every
/// earlier turn of it.
fn push_field(scanner: &mut Scanner<'_>, text: &mut Blocks) {
    match scanner.peek() {
        Some(b'[') => push_elements(scanner, LEVELS, text),
        Some(b'"') => {
            let string = scanner.string();
            let is_closed = 1 < string.len() && string.ends_with(b"\"");
            text.push(&string[..string.len() - usize::from(is_closed)]);
        }
        _ => push_value(scanner.value(), text),
    }
}

/// Adds the elements of an array, which begins here: messages, tools, or the parts of a content.
fn push_elements(scanner: &mut Scanner<'_>, levels: usize, text: &mut Blocks) {
    scanner.pass();
    while let Some(byte) = scanner.peek() {
        match byte {
            b']' => {
                scanner.pass();
                return;
            }
            b',' | b':' | b'}' => {
                scanner.pass();
                continue;
            }
            b'{' => push_object(scanner, levels - 1, text),
            _ => push_value(scanner.value(), text),
        }
        text.push(b",");
    }
}

/// Adds an object, which begins here, with its members in the order that [`sort_key`] gives them.
fn push_object(scanner: &mut Scanner<'_>, levels: usize, text: &mut Blocks) {
    let begin = *scanner;
    scanner.pass();
    let mut members: [(&[u8], &[u8]); MEMBERS_MAX] = [(&[], &[]); MEMBERS_MAX];
    let mut count = 0;
    while let Some(name) = next_name(scanner) {
        let value = scanner.value();
        if name != MARK {
            if let Some(member) = members.get_mut(count) {
                *member = (name, value);
            }
            count += 1;
        }
    }
    let Some(members) = members.get_mut(..count) else {
        return push_value(scanner.since(begin), text);
    };
    members.sort_by_key(|(name, _)| sort_key(name));
    text.push(b"{");
    for (name, value) in members {
        text.push(name);
        text.push(b":");
        match value.first() {
            // Where a string ends is known: it is not scanned again.
            Some(b'"') => text.push(value),
            Some(b'[') if 0 < levels && *name == b"\"content\"" => {
                push_elements(&mut Scanner::new(value), levels, text);
            }
            _ => push_value(value, text),
        }
        text.push(b",");
    }
    text.push(b"}");
}

/// Roles come first, as in every chat template: contents that only begin alike share their beginning.
fn sort_key<'a>(name: &&'a [u8]) -> (bool, &'a [u8]) {
    (*name != b"\"role\"", name)
}

/// Adds a value without the white space between its tokens.
fn push_value(value: &[u8], text: &mut Blocks) {
    let mut scanner = Scanner::new(value);
    while let Some(byte) = scanner.peek() {
        text.push(match byte {
            b'"' => scanner.string(),
            _ => scanner.run(),
        });
    }
}

#[cfg(test)]
mod tests;
