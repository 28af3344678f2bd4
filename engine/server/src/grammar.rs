//! Restricted answers: JSON of a schema, a regular expression, a choice, a grammar, tool calls.
//!
//! A request's wish becomes a grammar over the model's tokens, which says before each token which ones may come. The
//! tree over a model's tokens is built once, when the first grammar needs it or ahead of that by [`Grammars::warm`];
//! grammars are kept, so that the next request with the same schema costs a copy. What a caller sends may be
//! hostile: size, depth and the work that a grammar may cause are limited, and nothing panics.

mod cache;
mod error;
mod lark;
mod matching;
mod schema;
mod source;
#[cfg(test)]
mod tests;
mod tools;
mod vocabulary;

use std::sync::{Arc, OnceLock};

use engine_core::Constraint;
use engine_models::Tokenizer;
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::TokEnv;
use llguidance::{Matcher, ParserFactory};
use parking_lot::Mutex;
use serde_json::Value;

use crate::parse::{ReasoningFormat, Tool, ToolChoice, ToolFormat};

use cache::{Cache, Key};

pub use error::GrammarError;
pub use matching::Matching;

/// Grammars that are kept; the least recently used goes first.
const GRAMMARS_MAX: usize = 64;
/// Bytes that the kept grammars take, about; a hostile one can take fifty megabytes by itself.
const GRAMMAR_BYTES_MAX: usize = 32 << 20;
/// What a grammar takes at least.
const GRAMMAR_BYTES_MIN: usize = 64 << 10;
/// Nested schemas are followed by recursion, which a thread of the server has not the stack for.
const COMPILE_STACK_BYTES: usize = 32 << 20;

/// What an answer must be.
#[derive(Debug, Clone, PartialEq)]
pub enum GrammarSpec {
    /// Any JSON object.
    JsonObject,
    /// JSON that is valid under a schema.
    JsonSchema {
        /// The schema.
        schema: Value,
        /// Whether what cannot be enforced is an error; otherwise it is ignored.
        strict: bool,
    },
    /// Text that a regular expression matches as a whole.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// Text of a grammar in the language of Lark, as `llguidance` understands it.
    Lark(String),
    /// Tool calls.
    ToolCalls(ToolCalls),
    /// Free text in which some beginnings bind what follows.
    StructuralTag {
        /// What may follow.
        structures: Vec<Structure>,
        /// What must be followed by one of the structures that begin with it.
        triggers: Vec<String>,
    },
    /// One of several, of which at most one may be [`Self::ToolCalls`].
    Either(Vec<Self>),
}

/// Tool calls that an answer may or must make.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCalls {
    /// How the model writes them.
    pub format: &'static ToolFormat,
    /// What may be called.
    pub tools: Vec<Tool>,
    /// Which of them.
    pub choice: ToolChoice,
    /// Whether there may be more than one call.
    pub parallel: bool,
}

impl ToolCalls {
    /// Whether these calls restrict the answer at all: otherwise the model is free and no grammar is needed.
    pub fn is_restricted(&self) -> bool {
        match self.choice {
            ToolChoice::None => false,
            ToolChoice::Auto => self.tools.iter().any(|tool| tool.strict),
            ToolChoice::Required | ToolChoice::Named(_) => true,
        }
    }
}

/// A part of an answer between two texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Structure {
    /// The text in front.
    pub begin: String,
    /// The schema of the JSON between the texts.
    pub schema: Value,
    /// The text behind.
    pub end: String,
}

/// The reasoning that may come before the restricted part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reasoning {
    /// Its marks.
    pub format: ReasoningFormat,
    /// Whether the prompt has begun it: see [`ReasoningFormat::is_open_in`].
    pub is_open: bool,
}

/// The grammars of one model.
pub struct Grammars {
    tokenizer: Arc<Tokenizer>,
    compiler: OnceLock<Result<Compiler, GrammarError>>,
    cache: Mutex<Cache<Matcher>>,
}

/// What all grammars of a model share.
pub(crate) struct Compiler {
    factory: ParserFactory,
    environment: TokEnv,
}

impl Grammars {
    /// Grammars over the tokens of a tokenizer; costs nothing yet.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self {
            tokenizer,
            compiler: OnceLock::new(),
            cache: Mutex::new(Cache::new(GRAMMARS_MAX, GRAMMAR_BYTES_MAX)),
        }
    }

    /// Builds what all grammars share, so that the first request need not wait for it.
    pub fn warm(&self) {
        // A failure is told to whoever wants a grammar.
        drop(self.compiler());
    }

    /// The grammar of an answer, which may begin with reasoning. Takes milliseconds, and up to a second for a large
    /// schema: not for a thread that others wait for.
    ///
    /// # Errors
    /// [`GrammarError`] if the wish is wrong or too large, or the model's tokens cannot be restricted.
    pub fn compile(
        &self,
        spec: &GrammarSpec,
        reasoning: Option<&Reasoning>,
    ) -> Result<Box<dyn Constraint>, GrammarError> {
        Ok(Box::new(self.matching(spec, reasoning)?))
    }

    /// As [`Self::compile`], with all that a grammar can tell.
    ///
    /// # Errors
    /// As there.
    pub fn matching(
        &self,
        spec: &GrammarSpec,
        reasoning: Option<&Reasoning>,
    ) -> Result<Matching, GrammarError> {
        schema::check(spec)?;
        let vocabulary = self.tokenizer.vocabulary();
        let key = Key::of(spec, reasoning);
        if let Some(matcher) = self.cache.lock().get(&key) {
            return Ok(Matching::new(matcher.deep_clone(), vocabulary));
        }
        let (matcher, bytes) = self.build(spec, reasoning)?;
        self.cache.lock().insert(key, matcher.deep_clone(), bytes);
        Ok(Matching::new(matcher, vocabulary))
    }

    fn compiler(&self) -> Result<&Compiler, GrammarError> {
        let compiler = self
            .compiler
            .get_or_init(|| Compiler::new(Arc::clone(&self.tokenizer)));
        compiler.as_ref().map_err(Clone::clone)
    }

    fn build(
        &self,
        spec: &GrammarSpec,
        reasoning: Option<&Reasoning>,
    ) -> Result<(Matcher, usize), GrammarError> {
        let compiler = self.compiler()?;
        std::thread::scope(|scope| {
            let builder = std::thread::Builder::new()
                .name("grammar".to_owned())
                .stack_size(COMPILE_STACK_BYTES);
            let thread = builder.spawn_scoped(scope, || compiler.compile(spec, reasoning));
            let thread = thread.map_err(|error| GrammarError::Unavailable(error.to_string()))?;
            thread
                .join()
                .unwrap_or_else(|_| Err(GrammarError::Unavailable("the compiler broke".to_owned())))
        })
    }
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cache = self.cache.lock();
        formatter
            .debug_struct("Grammars")
            .field("cached", &cache.len())
            .field("cached_bytes", &cache.bytes())
            .finish_non_exhaustive()
    }
}

impl Compiler {
    fn new(tokenizer: Arc<Tokenizer>) -> Result<Self, GrammarError> {
        let built = llguidance::panic_utils::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let environment = vocabulary::Vocabulary::new(tokenizer).into_environment();
            let mut factory = ParserFactory::new_simple(&environment)?;
            factory.quiet();
            *factory.limits_mut() = limits();
            Ok(Self {
                factory,
                environment,
            })
        }));
        built.map_err(|error| GrammarError::Unavailable(error::first_line(&error)))
    }

    fn compile(
        &self,
        spec: &GrammarSpec,
        reasoning: Option<&Reasoning>,
    ) -> Result<(Matcher, usize), GrammarError> {
        let grammar = source::of(spec, reasoning, &self.environment)?;
        self.matcher(grammar)
            .map_err(|message| schema::locate(self, spec, message))
    }

    /// The matcher of a grammar and about how many bytes it takes, or what is wrong with the grammar.
    fn matcher(&self, grammar: TopLevelGrammar) -> Result<(Matcher, usize), String> {
        let parser = self.factory.create_parser(grammar);
        let parser = parser.map_err(|error| error::first_line(&error))?;
        let bytes = GRAMMAR_BYTES_MIN + parser.parser.lexer_stats().num_bytes;
        let mut matcher = Matcher::new(Ok(parser));
        // Some grammars that never come to a first token, as a schema that is only itself, are found out here.
        match matcher.compute_mask_or_eos() {
            Err(error) => Err(error::first_line(&error)),
            Ok(_) => Ok((matcher, bytes)),
        }
    }
}

/// What a grammar may cost. The defaults allow a hundred megabytes and more for one answer.
fn limits() -> ParserLimits {
    ParserLimits {
        max_lexer_states: 50_000,
        max_grammar_size: 200_000,
        // An answer's text has no place in an error or a log.
        verbose_errors: false,
        ..ParserLimits::default()
    }
}
