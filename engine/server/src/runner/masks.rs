//! Restrictions at work: what may come next is computed on threads of its own while the device computes.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use engine_core::{Constraint, ConstraintError, TokenId};
use tracing::warn;

/// A restriction and whether it can still be followed.
type Ready = (Box<dyn Constraint>, Result<(), ConstraintError>);

struct Work {
    constraint: Box<dyn Constraint>,
    /// The token to go on behind, if there is one.
    token: Option<TokenId>,
    done: Sender<Ready>,
}

/// The threads. They end with this.
pub(super) struct Masks {
    workers: Vec<Sender<Work>>,
    next: usize,
}

impl Masks {
    pub(super) fn start(threads: usize) -> Self {
        let start = |index: usize| {
            let (sender, receiver) = mpsc::channel::<Work>();
            let name = format!("grammar-{index}");
            match thread::Builder::new()
                .name(name)
                .spawn(move || work(&receiver))
            {
                Ok(_) => Some(sender),
                Err(error) => {
                    warn!(%error, "a thread for grammars could not be started");
                    None
                }
            }
        };
        Self {
            workers: (0..threads.max(1)).filter_map(start).collect(),
            next: 0,
        }
    }

    /// Moves a restriction on and computes what may come then, beside everything else.
    pub(super) fn advance(
        &mut self,
        constraint: Box<dyn Constraint>,
        token: Option<TokenId>,
    ) -> Restriction {
        let (done, ready) = mpsc::channel();
        let work = Work {
            constraint,
            token,
            done,
        };
        self.next += 1;
        let Some(worker) = self.workers.get(self.next % self.workers.len().max(1)) else {
            compute(work);
            return Restriction::Away(ready);
        };
        if let Err(mpsc::SendError(work)) = worker.send(work) {
            compute(work);
        }
        Restriction::Away(ready)
    }
}

fn work(receiver: &Receiver<Work>) {
    while let Ok(work) = receiver.recv() {
        compute(work);
    }
}

fn compute(work: Work) {
    let Work {
        mut constraint,
        token,
        done,
    } = work;
    let moved = token.map_or(Ok(()), |token| constraint.accept(token));
    let computed = moved.and_then(|()| constraint.mask().map(|_| ()));
    // Whoever wanted it may be gone.
    let _ = done.send((constraint, computed));
}

/// A sequence's restriction, which is here or with a thread that computes what may come next.
pub(super) enum Restriction {
    Here(Box<dyn Constraint>),
    Away(Receiver<Ready>),
    Lost(ConstraintError),
}

impl Restriction {
    /// Waits until the restriction is here.
    ///
    /// # Errors
    /// [`ConstraintError`] if it cannot be followed any longer.
    pub(super) fn wait(&mut self) -> Result<&mut Box<dyn Constraint>, ConstraintError> {
        if let Self::Away(ready) = self {
            *self = match ready.recv() {
                Ok((constraint, Ok(()))) => Self::Here(constraint),
                Ok((_, Err(error))) => Self::Lost(error),
                Err(_) => Self::Lost(ConstraintError("its computation failed".to_owned())),
            };
        }
        match self {
            Self::Here(constraint) => Ok(constraint),
            Self::Lost(error) => Err(error.clone()),
            Self::Away(_) => Err(ConstraintError("it is computed elsewhere".to_owned())),
        }
    }

    /// Sends the restriction to be moved on, if it is here.
    pub(super) fn send(&mut self, masks: &mut Masks, token: Option<TokenId>) {
        let lost = Self::Lost(ConstraintError("it is being moved".to_owned()));
        *self = match std::mem::replace(self, lost) {
            Self::Here(constraint) => masks.advance(constraint, token),
            other => other,
        };
    }
}
