//! Attribution: whom a request is counted for, besides its key: team, user, tags, and the end user that it names.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use protocol::openai::ErrorKind;

use crate::{
    authorize::Caller,
    decode::Fields,
    fault::Fault,
    limits::{Asker, Need, Reached, Reservation},
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

/// Whom a request is counted for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attribution<'a> {
    /// The team's id; empty without one.
    pub(crate) team: &'a str,
    /// The user's; empty without one.
    pub(crate) user: &'a str,
    /// Whom the client says that it asks for; empty if it does not say.
    pub(crate) end_user: &'a str,
    /// The tags of the key and of the request.
    pub(crate) tags: Cow<'a, [String]>,
    /// How many of the tags are the key's, whose terms count them.
    of_key: usize,
}

impl<'a> Attribution<'a> {
    /// Whom a request is counted for.
    ///
    /// # Errors
    /// The request has too many tags, or one that is too long.
    pub(crate) fn of(
        caller: &'a Caller,
        headers: &HeaderMap,
        fields: &'a Fields,
    ) -> Result<Self, Fault> {
        let terms = caller.terms();
        let own = terms.map_or(&[][..], |terms| &terms.tags);
        let mut tags = Cow::Borrowed(own);
        let in_headers = [TAGS, LITELLM_TAGS]
            .into_iter()
            .filter_map(|name| headers.get(name)?.to_str().ok());
        let in_headers = in_headers.flat_map(|list| list.split(',')).map(str::trim);
        let in_body = fields.tags.iter().map(String::as_str);
        for tag in in_headers.chain(in_body).filter(|tag| !tag.is_empty()) {
            if tags.iter().any(|known| known == tag) {
                continue;
            }
            if TAG_BYTES_MAX < tag.len() || own.len() + TAGS_MAX <= tags.len() {
                let message = format!(
                    "The request has more than {TAGS_MAX} tags, or one of more than {TAG_BYTES_MAX} bytes."
                );
                return Err(Fault::of(ErrorKind::InvalidRequest, "metadata", message));
            }
            tags.to_mut().push(tag.to_owned());
        }
        Ok(Self {
            team: caller.team().unwrap_or_default(),
            user: caller.user().unwrap_or_default(),
            end_user: fields.user.as_deref().unwrap_or_default(),
            of_key: own.len(),
            tags,
        })
    }

    /// Reserves what a request for this model may need of all who are accountable for it, besides its route.
    ///
    /// # Errors
    /// A limit of one of them is reached.
    pub(crate) fn reserve(
        &self,
        caller: &Caller,
        parties: &Parties,
        reservation: &mut Reservation,
        (asker, need, now): (&Asker<'_>, Need, Timestamp),
        over: &mut impl FnMut(&Reached),
    ) -> Result<(), Reached> {
        if let Some(terms) = caller.terms() {
            terms.reserve(reservation, asker, need, now, over)?;
        }
        for tag in self.tags.iter().skip(self.of_key) {
            if let Some(party) = parties.find(Kind::Tag, tag) {
                reservation.take(&party.standing().rules, asker, need, now, over)?;
            }
        }
        Ok(())
    }

    /// Who asks for this model.
    pub(crate) fn asker(&'a self, caller: &'a Caller, model: &'a str) -> Asker<'a> {
        Asker {
            key: caller.account(),
            team: self.team,
            user: self.user,
            tags: &self.tags,
            model,
        }
    }
}
