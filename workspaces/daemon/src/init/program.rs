//! From a request to a program: what is run, where, and with which environment.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::workspace::ExecRequest;
use workspaces_sandbox::confine::ProgramSpec;

use crate::fault::Refusal;
use crate::files::Home;

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
const TIMEOUT_MAX: Duration = Duration::from_secs(3_600);
const STDIN_BYTES_MAX: usize = 8 << 20;
const ID_BYTES_MAX: usize = 128;
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A request, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub spec: ProgramSpec,
    pub stdin: Vec<u8>,
    pub timeout: Duration,
    pub id: Option<String>,
}

/// The environment that every program gets: the container's own, a home, and where the proxy is.
pub(super) fn base_environment(home: &Path, proxy_port: u16) -> BTreeMap<String, String> {
    let own = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    environment(own, home, proxy_port)
}

/// Pure: defaults stay behind what the container says, the home does not.
fn environment(
    own: impl Iterator<Item = (String, String)>,
    home: &Path,
    proxy_port: u16,
) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = own.collect();
    let proxy = format!("http://127.0.0.1:{proxy_port}");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        env.entry(name.to_owned()).or_insert_with(|| proxy.clone());
    }
    for name in ["NO_PROXY", "no_proxy"] {
        env.entry(name.to_owned())
            .or_insert_with(|| "localhost,127.0.0.1,::1".to_owned());
    }
    env.entry("PATH".to_owned())
        .or_insert_with(|| PATH_DEFAULT.to_owned());
    env.entry("LANG".to_owned())
        .or_insert_with(|| "C.UTF-8".to_owned());
    env.insert("HOME".to_owned(), home.display().to_string());
    env
}

/// Checks a request.
pub(super) fn plan(
    request: ExecRequest,
    base: &BTreeMap<String, String>,
    home: &Home,
) -> Result<Program, Refusal> {
    let ExecRequest {
        command,
        env,
        cwd,
        stdin,
        timeout_seconds,
        id,
    } = request;
    if command.first().is_none_or(String::is_empty) {
        return Err(Refusal::Invalid("the command is empty".to_owned()));
    }
    if command.iter().any(|word| word.contains('\0')) {
        return Err(Refusal::Invalid("the command has a zero byte".to_owned()));
    }
    if env
        .iter()
        .any(|(key, value)| key.is_empty() || key.contains(['=', '\0']) || value.contains('\0'))
    {
        return Err(Refusal::Invalid(
            "a name in the environment is empty, or it holds `=` or a zero byte".to_owned(),
        ));
    }
    let timeout = timeout_seconds.map_or(TIMEOUT_DEFAULT, Duration::from_secs);
    if timeout.is_zero() || timeout > TIMEOUT_MAX {
        return Err(Refusal::Invalid(format!(
            "the timeout must be 1 to {} seconds",
            TIMEOUT_MAX.as_secs()
        )));
    }
    let stdin = STANDARD
        .decode(stdin.unwrap_or_default())
        .map_err(|error| Refusal::Invalid(format!("stdin is not base64: {error}")))?;
    if stdin.len() > STDIN_BYTES_MAX {
        return Err(Refusal::TooLarge(format!(
            "stdin is longer than {STDIN_BYTES_MAX} bytes"
        )));
    }
    if id
        .as_ref()
        .is_some_and(|id| id.is_empty() || id.len() > ID_BYTES_MAX)
    {
        return Err(Refusal::Invalid(format!(
            "an id has 1 to {ID_BYTES_MAX} bytes"
        )));
    }
    let mut whole = base.clone();
    whole.extend(env);
    Ok(Program {
        spec: ProgramSpec {
            command,
            env: whole,
            cwd: folder(cwd.as_deref(), home)?,
        },
        stdin,
        timeout,
        id,
    })
}

/// Where to run: below the home, or in another place that programs can see.
fn folder(cwd: Option<&str>, home: &Home) -> Result<std::path::PathBuf, Refusal> {
    let Some(cwd) = cwd else {
        return Ok(home.path().to_owned());
    };
    let outside = Path::new(cwd).is_absolute() && !Path::new(cwd).starts_with(home.path());
    if outside {
        // The program starts there only if its confinement lets it; nothing is opened on its behalf.
        return Ok(Path::new(cwd).to_owned());
    }
    let path = home.parse(cwd)?;
    home.has_folder(&path)?;
    Ok(path.absolute(home.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(change: impl FnOnce(&mut ExecRequest)) -> ExecRequest {
        let mut request = ExecRequest {
            command: vec!["true".to_owned()],
            ..ExecRequest::default()
        };
        change(&mut request);
        request
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut ExecRequest), accepted: bool) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let home = Home::open(dir.path()).unwrap();
        let outcome = plan(request(change), &BTreeMap::new(), &home);
        assert_eq!(outcome.is_ok(), accepted, "{outcome:?}");
    }

    #[test]
    fn a_request_is_checked_before_anything_runs() {
        check(|_| {}, true);
        check(|request| request.command.clear(), false);
        check(|request| request.command[0].clear(), false);
        check(|request| request.command.push("\0".to_owned()), false);
        check(|request| request.timeout_seconds = Some(0), false);
        check(|request| request.timeout_seconds = Some(3_600), true);
        check(|request| request.timeout_seconds = Some(3_601), false);
        check(|request| request.stdin = Some("aGk=".to_owned()), true);
        check(|request| request.stdin = Some("!".to_owned()), false);
        check(|request| request.id = Some(String::new()), false);
        check(|request| request.cwd = Some("sub".to_owned()), true);
        check(|request| request.cwd = Some("../x".to_owned()), false);
        check(|request| request.cwd = Some("none".to_owned()), false);
        check(|request| request.cwd = Some("/usr".to_owned()), true);
        check(
            |request| drop(request.env.insert("A=".to_owned(), String::new())),
            false,
        );
    }

    #[test]
    fn the_container_may_choose_its_proxy_but_not_its_home() {
        let own = [("HOME", "/root"), ("HTTP_PROXY", "http://other")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let env = environment(own.into_iter(), Path::new("/work"), 3128);
        assert_eq!(env["HOME"], "/work");
        assert_eq!(env["HTTP_PROXY"], "http://other");
        assert_eq!(env["https_proxy"], "http://127.0.0.1:3128");
    }
}
