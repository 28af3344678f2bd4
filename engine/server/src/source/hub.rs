//! `hf://ORG/REPO[@REVISION]/FILE`: a file of a repository on a model hub, whose endpoint the operator names.

use super::error::FetchError;
use super::uri::HubFile;

/// The file's address.
pub(super) fn url(file: &HubFile, endpoint: Option<&str>) -> Result<String, FetchError> {
    let Some(endpoint) = endpoint
        .map(|endpoint| endpoint.trim_end_matches('/'))
        .filter(|endpoint| !endpoint.is_empty())
    else {
        let message =
            "hf:// sources need the hub's address: set HF_ENDPOINT or --hf-endpoint of the engine";
        return Err(FetchError::Setup(message.to_owned()));
    };
    let HubFile {
        repository,
        revision,
        file,
    } = file;
    Ok(format!("{endpoint}/{repository}/resolve/{revision}/{file}"))
}
