//! What the gateway keeps beside its ledger, and calls in the name of a key that is not there, as those of batches.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::Full;
use jiff::Timestamp;
use protocol::openai::ErrorKind;

use super::{Gateway, passage::Admitted};
use crate::{
    attribution::Attribution,
    authorize::Caller,
    call::{Call, Operation},
    decode::{Spill, decode},
    encode::Body,
    fault::Fault,
    objects::Objects,
};

/// Where the gateway keeps what is not for the ledger.
#[derive(Debug)]
pub(crate) struct Storage {
    /// Forms whose model comes late.
    pub(crate) spill: Spill,
    /// Files and batches.
    pub(crate) objects: Arc<Objects>,
}

impl Storage {
    /// In a data folder.
    ///
    /// # Errors
    /// The folder cannot be used, in words.
    pub(crate) fn open(
        data_dir: &Path,
        form_bytes_max: u64,
        files_bytes_max: u64,
    ) -> Result<Self, String> {
        Ok(Self {
            spill: Spill::new(data_dir, form_bytes_max),
            objects: Arc::new(Objects::open(data_dir, files_bytes_max)?),
        })
    }
}

impl Gateway {
    /// One call of a model for a key that is known by its id, as for a line of a batch. It waits for its place.
    ///
    /// # Errors
    /// What the caller is told in place of an answer.
    pub(crate) async fn call_for(
        self: &Arc<Self>,
        key: &str,
        id: &str,
        operation: Operation,
        body: Bytes,
    ) -> Result<Response<Body>, Fault> {
        let call = Call::new(id.to_owned(), operation);
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| Fault::new(ErrorKind::Unavailable, "The gateway ends."))?;
        let table = self.table()?;
        let declared = table.key_of(key).cloned();
        let key = declared.or_else(|| self.people.key_of(key));
        let caller = Caller::of(key, Timestamp::now());
        if let Caller::Nobody(why) = &caller {
            return Err(why.fault());
        }
        let body = Full::new(body);
        let decoded = decode(operation, body, self.limits.body_bytes_max).await?;
        let headers = HeaderMap::new();
        let attribution = Attribution::of(&caller, &headers, &decoded.fields)?;
        let admitted = Admitted {
            attribution,
            call,
            table,
            caller,
            headers,
            decoded,
            upload: None,
            invitation: None,
            permit,
        };
        Arc::clone(self).pass(admitted).await
    }

    /// The account of the key that a request comes with.
    ///
    /// # Errors
    /// It comes with none that is valid.
    pub(crate) fn account(&self, headers: &HeaderMap) -> Result<String, Fault> {
        let table = self.table()?;
        match self.authorize(&table, headers) {
            Caller::Nobody(why) => Err(why.fault()),
            caller @ Caller::Key(_) => Ok(caller.account().to_owned()),
        }
    }

    /// Bytes that a form may have.
    pub(crate) const fn form_bytes_max(&self) -> u64 {
        self.spill.form_bytes_max()
    }

    /// Bytes that a body of JSON may have.
    pub(crate) const fn body_bytes_max(&self) -> usize {
        self.limits.body_bytes_max
    }
}
