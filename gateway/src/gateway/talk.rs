//! Conversations over WebSockets: who may hold one, and with which route.

use std::sync::Arc;

use http::{HeaderMap, Response, Uri};
use hyper::upgrade::OnUpgrade;

use super::{Gateway, passage::Admitted};
use crate::{
    attribution::Attribution,
    authorize::Caller,
    call::{Call, Operation},
    decode::Decoded,
    encode::Body,
    fault::Fault,
    realtime,
};

impl Gateway {
    /// `GET /v1/realtime`.
    ///
    /// # Errors
    /// What the caller is told in place of a conversation.
    pub(crate) async fn talk(
        self: &Arc<Self>,
        id: &str,
        uri: &Uri,
        headers: HeaderMap,
        upgrade: Option<OnUpgrade>,
    ) -> Result<Response<Body>, Fault> {
        let call = Call::new(id.to_owned(), Operation::Realtime);
        let permit = self.admit()?;
        let table = self.table()?;
        let headers = realtime::with_key(headers);
        let caller = self.authorize(&table, &headers);
        if let Caller::Nobody(why) = &caller
            && !table.has_open_route
        {
            return Err(why.fault());
        }
        let invitation = realtime::invitation(&headers, upgrade, &self.talks)?;
        let decoded = Decoded::without_body(Operation::Realtime, realtime::model(uri)?);
        let attribution = Attribution::of(&caller, &headers, &decoded.fields)?;
        let admitted = Admitted {
            attribution,
            call,
            table,
            caller,
            headers,
            decoded,
            upload: None,
            invitation: Some(invitation),
            renamed: None,
            permit,
        };
        Box::pin(Arc::clone(self).pass(admitted)).await
    }
}
