//! Wildcards: deployments that stand for many models, as backends whose `modelOverride` has a star.

/// What takes the place of the star of a pattern, and of a name.
const STAR: char = '*';

/// The models of a deployment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Models {
    /// The one that its Model names.
    One,
    /// All that this override makes of the names that are asked for.
    Many(String),
    /// Some that no backend can name.
    Unnamable,
}

/// The models of a deployment that answers to a name; it asks a provider for a model.
pub(super) fn models(
    name: &str,
    full: &str,
    (provider, model): (&str, &str),
    at: &str,
    warnings: &mut Vec<String>,
) -> Models {
    let stars = model.matches(STAR).count();
    let is_pattern = |name: &str| {
        let rest = name.strip_suffix(STAR).or_else(|| name.strip_prefix(STAR));
        rest.is_some_and(|rest| !rest.contains(STAR))
    };
    if name.contains(STAR) && !is_pattern(name) {
        warnings.push(format!(
            "{at}: `{name}` has a `*` elsewhere than at its beginning or its end; it is left out"
        ));
        return Models::Unnamable;
    }
    let fault = match stars {
        0 => return Models::One,
        _ if full == "*" && provider == "openai" => {
            "stands for models of all providers; write an entry for each, as `openai/*`"
        }
        1 if is_pattern(name) => {
            if provider.starts_with("vertex_ai") && model.starts_with(STAR) {
                warnings.push(format!(
                    "{at}: `{full}` comes to Google's models; those of Anthropic's need a backend of their own, with modelOverride `claude-*`"
                ));
            }
            return Models::Many(model.to_owned());
        }
        1 => "stands for many models, and the name that requests carry for one; it is left out",
        _ => "has more than one `*`; it is left out",
    };
    warnings.push(format!("{at}: `{full}` {fault}"));
    Models::Unnamable
}

#[cfg(test)]
mod tests {
    use super::{Models, models};

    #[track_caller]
    fn check(name: &str, full: &str, asked: (&str, &str), expected: &Models) {
        let mut warnings = Vec::new();
        let found = models(name, full, asked, "at", &mut warnings);
        assert_eq!(
            found == Models::Unnamable,
            1 == warnings.len(),
            "{warnings:?}"
        );
        assert_eq!(&found, expected);
    }

    #[test]
    fn a_star_on_either_side_is_an_override() {
        let many = |model: &str| Models::Many(model.to_owned());
        check("openai/*", "openai/*", ("openai", "*"), &many("*"));
        check("my-*", "azure/team-*", ("azure", "team-*"), &many("team-*"));
        check("*", "groq/*", ("groq", "*"), &many("*"));
        check("gpt-*", "openai/gpt-4o", ("openai", "gpt-4o"), &Models::One);
        check("*", "*", ("openai", "*"), &Models::Unnamable);
        check("one", "openai/*", ("openai", "*"), &Models::Unnamable);
        check("a*b", "openai/*", ("openai", "*"), &Models::Unnamable);
        check("a/*", "openai/*:*", ("openai", "*:*"), &Models::Unnamable);
    }
}
