//! The names of providers in metrics and spans, as OpenTelemetry has them.

use protocol::vendor::Vendor;

use super::kind::Kind;

/// The name of a kind of provider, or of its vendor; servers of OpenAI's API that belong to no vendor are `openai`.
pub(super) fn of(kind: &Kind, vendor: Option<&'static Vendor>) -> &'static str {
    match vendor.map(|vendor| &*vendor.name) {
        Some("google") => "gcp.gemini",
        Some("mistral") => "mistral_ai",
        Some("xai") => "x_ai",
        Some(name) => name,
        None => of_kind(kind),
    }
}

const fn of_kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::OpenAi => "openai",
        Kind::Azure(_) => "azure.ai.openai",
        Kind::Anthropic => "anthropic",
        Kind::Bedrock => "aws.bedrock",
        Kind::Gemini => "gcp.gemini",
        Kind::Vertex(_) | Kind::VertexAnthropic(_) => "gcp.vertex_ai",
        Kind::Ollama => "ollama",
    }
}

#[cfg(test)]
mod tests {
    use protocol::{
        provider::Provider as Wanted,
        snapshot::Target,
        vendor::{self, Vendor},
    };

    use super::{Kind, of};

    #[track_caller]
    fn check(provider: Wanted, vendor: Option<&str>, expected: &str) {
        let vendor: Option<&'static Vendor> = vendor.and_then(vendor::find);
        let target = Target {
            provider,
            ..Target::default()
        };
        assert_eq!(of(&Kind::of(&target), vendor), expected);
    }

    #[test]
    fn providers_have_the_names_of_the_conventions() {
        check(Wanted::OpenAI, None, "openai");
        check(Wanted::OpenAI, Some("mistral"), "mistral_ai");
        check(Wanted::OpenAI, Some("xai"), "x_ai");
        check(Wanted::OpenAI, Some("google"), "gcp.gemini");
        check(Wanted::OpenAI, Some("groq"), "groq");
        check(Wanted::Anthropic, None, "anthropic");
        check(Wanted::Gemini, None, "gcp.gemini");
        let region = "r".to_owned();
        check(Wanted::Bedrock { region }, None, "aws.bedrock");
    }
}
