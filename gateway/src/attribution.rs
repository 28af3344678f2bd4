//! Attribution: whom a request is counted for besides its key: the key's team and user, and tags.

use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use protocol::openai::ErrorKind;

use crate::{
    authorize::Caller,
    decode::Fields,
    fault::Fault,
    limits::{Asker, Need, Reached, Refused, Reservation},
    people::{Kind, Parties},
};

/// Tags in a header, with commas between them.
const TAGS: HeaderName = HeaderName::from_static("x-quarterdeck-tags");
/// The header that clients of LiteLLM send tags in.
const LITELLM_TAGS: HeaderName = HeaderName::from_static("x-litellm-tags");
/// Tags of one request.
const TAGS_MAX: usize = 16;
/// Bytes of a tag.
const TAG_BYTES_MAX: usize = 128;

/// The tags of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attribution {
    /// The tags of the key and of the request; `None` if the request has none of its own.
    tags: Option<Vec<String>>,
    /// How many of them are the key's, whose terms count them.
    of_key: usize,
}

impl Attribution {
    /// Finds the tags of a request.
    ///
    /// # Errors
    /// The request has too many tags, or one that is too long.
    pub(crate) fn of(caller: &Caller, headers: &HeaderMap, fields: &Fields) -> Result<Self, Fault> {
        let own = caller.terms().map_or(&[][..], |terms| &terms.tags);
        let mut tags: Option<Vec<String>> = None;
        let in_headers = [TAGS, LITELLM_TAGS]
            .into_iter()
            .filter_map(|name| headers.get(name)?.to_str().ok());
        let in_headers = in_headers.flat_map(|list| list.split(',')).map(str::trim);
        let in_body = fields.tags.iter().map(String::as_str);
        for tag in in_headers.chain(in_body).filter(|tag| !tag.is_empty()) {
            let tags = tags.get_or_insert_with(|| own.to_vec());
            if tags.iter().any(|known| known == tag) {
                continue;
            }
            if TAG_BYTES_MAX < tag.len() || own.len() + TAGS_MAX <= tags.len() {
                let message = format!(
                    "The request has more than {TAGS_MAX} tags, or one of more than {TAG_BYTES_MAX} bytes."
                );
                return Err(Fault::of(ErrorKind::InvalidRequest, "metadata", message));
            }
            tags.push(tag.to_owned());
        }
        Ok(Self {
            tags,
            of_key: own.len(),
        })
    }

    /// Who asks for this model.
    pub(crate) fn asker<'a>(&'a self, caller: &'a Caller, model: &'a str) -> Asker<'a> {
        let own = || caller.terms().map_or(&[][..], |terms| &terms.tags);
        Asker {
            key: caller.account(),
            team: caller.team().unwrap_or_default(),
            user: caller.user().unwrap_or_default(),
            tags: self.tags.as_deref().unwrap_or_else(own),
            model,
        }
    }

    /// Reserves what a request may need of all who are accountable for it, besides its route.
    ///
    /// # Errors
    /// A limit of one of them is reached, or other replicas must be asked first.
    pub(crate) fn reserve(
        &self,
        caller: &Caller,
        parties: &Parties,
        reservation: &mut Reservation,
        (asker, need, now): (&Asker<'_>, Need, Timestamp),
        over: &mut impl FnMut(&Reached),
    ) -> Result<(), Refused> {
        if let Some(terms) = caller.terms() {
            terms.reserve(reservation, asker, need, now, over)?;
        }
        for tag in self.tags.iter().flatten().skip(self.of_key) {
            if let Some(party) = parties.find(Kind::Tag, tag) {
                reservation.take(&party.standing().rules, asker, need, now, over)?;
            }
        }
        Ok(())
    }
}
