//! The answer of `ListObjectsV2`, as far as we need it: keys, lengths, tags, and where the list goes on.

/// An object of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source) struct Object {
    pub(in crate::source) key: String,
    pub(in crate::source) bytes: u64,
    pub(in crate::source) tag: Option<String>,
}

/// A page of a bucket's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source) struct Page {
    pub(in crate::source) objects: Vec<Object>,
    /// What asks for the next page.
    pub(in crate::source) next: Option<String>,
}

/// Reads a page; `None` if it is no such document.
pub(in crate::source) fn parse(xml: &str) -> Option<Page> {
    let (_, list) = xml.split_once("<ListBucketResult")?;
    if !list.contains("</ListBucketResult>") {
        return None;
    }
    let (mut objects, mut rest) = (Vec::new(), list);
    while let Some((_, after)) = rest.split_once("<Contents>") {
        let (object, next) = after.split_once("</Contents>")?;
        objects.push(Object {
            key: element(object, "Key")?,
            bytes: element(object, "Size")?.trim().parse().ok()?,
            tag: element(object, "ETag").filter(|tag| tag.starts_with('"')),
        });
        rest = next;
    }
    let is_cut = element(list, "IsTruncated").is_some_and(|text| text.trim() == "true");
    let next = element(list, "NextContinuationToken").filter(|_| is_cut);
    Some(Page { objects, next })
}

/// The text of the first element of this name.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    unescape(text)
}

/// Text without XML's escapes.
fn unescape(text: &str) -> Option<String> {
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('&') {
        let (name, next) = after.split_once(';')?;
        plain.push_str(before);
        plain.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => {
                let number = name.strip_prefix('#')?;
                let code = match number.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                    None => number.parse().ok()?,
                };
                char::from_u32(code)?
            }
        });
        rest = next;
    }
    plain.push_str(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::{Object, Page, parse};

    #[track_caller]
    fn check(xml: &str, expected: impl Into<Option<Page>>) {
        assert_eq!(parse(xml), expected.into(), "{xml}");
    }

    #[test]
    fn lists_are_read_or_refused() {
        let object = |key: &str, tag: Option<&str>| Object {
            key: key.to_owned(),
            bytes: 7,
            tag: tag.map(str::to_owned),
        };
        let list = |inner: &str| {
            format!(
                "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"x\">{inner}</ListBucketResult>"
            )
        };
        let contents = "<Contents><Key>a&amp;b/&#x63;.gguf</Key><ETag>&quot;e&quot;</ETag><Size>7</Size></Contents>";
        check(
            &list(""),
            Some(Page {
                objects: vec![],
                next: None,
            }),
        );
        let objects = vec![object("a&b/c.gguf", Some("\"e\""))];
        let page = |next: Option<&str>| Page {
            objects: objects.clone(),
            next: next.map(str::to_owned),
        };
        check(&list(contents), Some(page(None)));
        let more =
            "<IsTruncated>true</IsTruncated><NextContinuationToken>t==</NextContinuationToken>";
        check(&list(&format!("{more}{contents}")), Some(page(Some("t=="))));
        for broken in [
            "<html></html>",
            "<ListBucketResult><Contents><Key>a</Key>",
            &list("<Contents><Key>a</Key></Contents>"),
            &list("<Contents><Key>&bad;</Key><Size>7</Size></Contents>"),
            &list("<Contents><Key>a</Key><Size>-7</Size></Contents>"),
        ] {
            check(broken, None);
        }
    }
}
