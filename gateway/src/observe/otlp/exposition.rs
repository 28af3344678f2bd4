//! Reads the text that Prometheus reads back into metrics: of our own registry, so that what is pushed is what is scraped.

/// A metric with all its samples.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Metric {
    /// Its name.
    pub(super) name: String,
    /// What it is.
    pub(super) help: String,
    /// What it counts.
    pub(super) kind: Kind,
    /// Its samples, in order.
    pub(super) samples: Vec<Sample>,
}

/// A kind of metric.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// Grows.
    Counter,
    /// Goes up and down.
    #[default]
    Gauge,
    /// Counts by size.
    Histogram,
}

/// One sample.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sample {
    /// What stands behind the metric's name, as `_bucket`.
    pub(super) suffix: String,
    /// The labels.
    pub(super) labels: Vec<(String, String)>,
    /// The value as it is written.
    pub(super) value: String,
}

/// All metrics of a text; lines that are none of the format's are left out.
pub(super) fn read(text: &str) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = Vec::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            describe(&mut metrics, comment);
            continue;
        }
        let Some(metric) = metrics.last_mut() else {
            continue;
        };
        metric.samples.extend(sample(&metric.name, line));
    }
    metrics.retain(|metric| !metric.samples.is_empty());
    metrics
}

/// Takes a line about a metric.
fn describe(metrics: &mut Vec<Metric>, comment: &str) {
    let mut words = comment.splitn(3, ' ');
    let (Some(what), Some(name), Some(said)) = (words.next(), words.next(), words.next()) else {
        return;
    };
    if metrics.last().is_none_or(|last| last.name != name) {
        metrics.push(Metric {
            name: name.to_owned(),
            ..Metric::default()
        });
    }
    let Some(metric) = metrics.last_mut() else {
        return;
    };
    match (what, said) {
        ("HELP", said) => said.clone_into(&mut metric.help),
        ("TYPE", "counter") => metric.kind = Kind::Counter,
        ("TYPE", "histogram") => metric.kind = Kind::Histogram,
        _ => {}
    }
}

/// One line with a value.
fn sample(name: &str, line: &str) -> Option<Sample> {
    let rest = line.strip_prefix(name)?;
    let end = rest.find(['{', ' '])?;
    let (suffix, rest) = rest.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_whitespace().next()?;
    Some(Sample {
        suffix: suffix.to_owned(),
        labels,
        value: value.to_owned(),
    })
}

/// Labels up to their closing brace, and what stands behind it.
fn labels(text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    let mut rest = text;
    loop {
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((labels, behind));
        }
        let (name, behind) = rest.split_once("=\"")?;
        let (value, behind) = quoted(behind)?;
        labels.push((name.trim_start_matches(',').to_owned(), value));
        rest = behind.strip_prefix(',').unwrap_or(behind);
    }
}

/// A value up to its closing quote, and what stands behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match letters.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            letter => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Kind, Metric, Sample, read};

    fn sample(suffix: &str, labels: &[(&str, &str)], value: &str) -> Sample {
        let labels = labels.iter();
        Sample {
            suffix: suffix.to_owned(),
            labels: labels
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            value: value.to_owned(),
        }
    }

    #[test]
    fn what_prometheus_reads_is_read() {
        let text = "# HELP calls Calls of \"all\".\n# TYPE calls counter\n\
            calls_total{route=\"a\\\"b\\\\c\\nd}\",status=\"200\"} 3\ncalls_total 1.5 # {trace=\"x\"} 1\n\
            # HELP none Nothing.\n# TYPE none gauge\n\
            # HELP up Up.\n# TYPE up gauge\nup -2\nothers 7\n# EOF\n";
        let expected = [
            Metric {
                name: "calls".to_owned(),
                help: "Calls of \"all\".".to_owned(),
                kind: Kind::Counter,
                samples: vec![
                    sample(
                        "_total",
                        &[("route", "a\"b\\c\nd}"), ("status", "200")],
                        "3",
                    ),
                    sample("_total", &[], "1.5"),
                ],
            },
            Metric {
                name: "up".to_owned(),
                help: "Up.".to_owned(),
                kind: Kind::Gauge,
                samples: vec![sample("", &[], "-2")],
            },
        ];
        assert_eq!(read(text), expected);
    }
}
