//! Programs that run: started, watched, ended in time, and told about to whoever asks.

mod run;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::header::CONTENT_TYPE;
use parking_lot::Mutex;
use protocol::workspace::ExecRequest;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use workspaces_sandbox::confine::Confinement;

use self::run::Run;
use super::Shared;
use super::orphans::Orphans;
use super::program::{Program, plan};
use crate::fault::Refusal;
use crate::files::Home;

/// Programs at one time.
const RUNNING_MAX: usize = 64;
/// Ended programs with an id that are remembered; the gate keeps results for good.
const ENDED_MAX: usize = 4;

/// All programs of this workspace.
#[derive(Debug)]
pub(super) struct Execs {
    confinement: Arc<Confinement>,
    home: Arc<Home>,
    base: BTreeMap<String, String>,
    orphans: Orphans,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    running: usize,
    by_id: BTreeMap<String, (Program, Arc<Run>)>,
    ended: VecDeque<String>,
}

/// Kills a program without an id when nobody listens to it any more.
struct Listener {
    run: Arc<Run>,
    kills: bool,
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.kills {
            self.run.give_up();
        }
    }
}

impl Execs {
    pub(super) fn new(
        confinement: Confinement,
        home: Arc<Home>,
        base: BTreeMap<String, String>,
        orphans: Orphans,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            confinement: Arc::new(confinement),
            home,
            base,
            orphans,
            tasks,
            shutdown,
            known: Mutex::default(),
        }
    }

    /// Starts a program, or finds the one with the same id.
    async fn start(shared: &Arc<Shared>, request: ExecRequest) -> Result<Listener, Refusal> {
        let execs = &shared.execs;
        let program = plan(request, &execs.base, &execs.home)?;
        let run = match execs.admit(&program)? {
            Admission::Known(run) => return Ok(Listener { run, kills: false }),
            Admission::New(run) => run,
        };
        let started = {
            let (confinement, orphans) = (Arc::clone(&execs.confinement), execs.orphans.clone());
            let spec = program.spec.clone();
            tokio::task::spawn_blocking(move || run::spawn(&confinement, &orphans, &spec)).await
        };
        let started = match started {
            Ok(Ok(started)) => started,
            Ok(Err(refusal)) => {
                execs.forget(&program);
                return Err(refusal);
            }
            Err(error) => {
                execs.forget(&program);
                return Err(Refusal::Internal(format!("a start was lost: {error}")));
            }
        };
        let listener = Listener {
            run: Arc::clone(&run),
            kills: program.id.is_none(),
        };
        let shared = Arc::clone(shared);
        execs.tasks.spawn(async move {
            let (stdin, timeout) = (program.stdin.clone(), program.timeout);
            run.watch(
                started,
                stdin,
                timeout,
                &shared.execs.orphans,
                &shared.execs.shutdown,
            )
            .await;
            shared.execs.ended(&program);
        });
        Ok(listener)
    }

    fn admit(&self, program: &Program) -> Result<Admission, Refusal> {
        let mut known = self.known.lock();
        if let Some(id) = &program.id
            && let Some((first, run)) = known.by_id.get(id)
        {
            if first != program {
                return Err(Refusal::Conflict(format!(
                    "the id {id} belongs to another request"
                )));
            }
            return Ok(Admission::Known(Arc::clone(run)));
        }
        if known.running >= RUNNING_MAX {
            return Err(Refusal::Conflict(format!(
                "{RUNNING_MAX} programs run already; wait for one to end"
            )));
        }
        known.running += 1;
        let run = Arc::new(Run::default());
        if let Some(id) = &program.id {
            known
                .by_id
                .insert(id.clone(), (program.clone(), Arc::clone(&run)));
        }
        Ok(Admission::New(run))
    }

    /// A program that never started is not remembered: a repeat may try again.
    fn forget(&self, program: &Program) {
        let mut known = self.known.lock();
        known.running -= 1;
        if let Some((_, run)) = program.id.as_ref().and_then(|id| known.by_id.remove(id)) {
            run.fail();
        }
    }

    fn ended(&self, program: &Program) {
        let mut known = self.known.lock();
        known.running -= 1;
        let Some(id) = &program.id else {
            return;
        };
        known.ended.push_back(id.clone());
        if known.ended.len() > ENDED_MAX
            && let Some(oldest) = known.ended.pop_front()
        {
            known.by_id.remove(&oldest);
        }
    }
}

enum Admission {
    New(Arc<Run>),
    Known(Arc<Run>),
}

/// `POST /v1/exec`
pub(super) async fn handle(
    State(shared): State<Arc<Shared>>,
    Json(request): Json<ExecRequest>,
) -> Result<Response, Refusal> {
    let listener = Execs::start(&shared, request).await?;
    let lines = stream::unfold((listener, 0), |(listener, index)| async move {
        let line = listener.run.line(index).await?;
        Some((
            Ok::<Bytes, std::convert::Infallible>(line),
            (listener, index + 1),
        ))
    });
    Ok((
        [(CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response())
}
