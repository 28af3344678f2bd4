//! What the step loop is told beside requests: sleep, wake, forget, adapters.

use std::sync::Arc;

use engine_core::AdapterId;
use engine_models::{Adapter, SleepLevel};
use tokio::sync::oneshot;
use tracing::info;

use crate::metrics::SleepState;

use super::lane::LaneEnded;
use super::{Request, Runner};

/// Something for the step loop.
#[derive(Debug)]
pub(crate) enum Message {
    /// A request.
    Request(Box<Request>),
    /// Anything else.
    Command(Command),
}

/// A change of the engine's state; `done` is told when it has happened.
#[derive(Debug)]
pub(crate) enum Command {
    /// Give memory back. What runs goes on after the next `Wake`.
    Sleep {
        level: SleepLevel,
        done: oneshot::Sender<Result<(), String>>,
    },
    /// Take the memory again.
    Wake {
        done: oneshot::Sender<Result<(), String>>,
    },
    /// Forget all content of the prefix cache.
    ResetPrefixCache {
        done: oneshot::Sender<Result<(), String>>,
    },
    /// Take an adapter.
    AddAdapter {
        id: AdapterId,
        name: String,
        adapter: Arc<Adapter>,
        done: oneshot::Sender<Result<(), String>>,
    },
    /// Forget an adapter once nothing is computed with it any more; new requests are refused at once.
    RemoveAdapter {
        id: AdapterId,
        done: oneshot::Sender<Result<(), String>>,
    },
}

impl Runner {
    /// Carries a command out.
    pub(super) fn obey(&mut self, command: Command) -> Result<(), LaneEnded> {
        self.land()?;
        // Whoever asked may be gone.
        match command {
            Command::Sleep { level, done } => {
                self.sleep(level)?;
                let _ = done.send(Ok(()));
            }
            Command::Wake { done } => {
                let _ = done.send(self.wake()?);
            }
            Command::ResetPrefixCache { done } => {
                self.scheduler.reset_cache();
                self.lane.perform(super::device::Device::drop_host_blocks)?;
                let _ = done.send(Ok(()));
            }
            Command::AddAdapter {
                id,
                name,
                adapter,
                done,
            } => {
                self.lane
                    .perform(move |device| device.backend.add_adapter(id, adapter))?;
                self.adapters.insert(id, name);
                let _ = done.send(Ok(()));
            }
            Command::RemoveAdapter { id, done } => {
                if self.adapters.remove(&id).is_some() {
                    self.retired.push(id);
                }
                self.remove_retired()?;
                let _ = done.send(Ok(()));
            }
        }
        Ok(())
    }

    /// Takes adapters off the device that nobody uses any more.
    pub(super) fn remove_retired(&mut self) -> Result<(), LaneEnded> {
        let active = &self.active;
        let is_used = |id: &AdapterId| active.values().any(|active| active.adapter == Some(*id));
        let (used, unused) = self.retired.drain(..).partition(is_used);
        self.retired = used;
        let unused: Vec<_> = unused;
        for id in unused {
            self.lane
                .perform(move |device| device.backend.remove_adapter(id))?;
        }
        Ok(())
    }

    fn sleep(&mut self, level: SleepLevel) -> Result<(), LaneEnded> {
        self.scheduler.suspend();
        self.lane.perform(move |device| {
            device.drop_host_blocks();
            device.backend.sleep(level);
        })?;
        self.is_asleep = true;
        self.metrics.set_sleep(match level {
            SleepLevel::Light => SleepState::OFFLOADED,
            SleepLevel::Deep => SleepState::DISCARDED,
        });
        info!(?level, "the engine sleeps");
        Ok(())
    }

    fn wake(&mut self) -> Result<Result<(), String>, LaneEnded> {
        let woken = self.lane.perform(|device| device.backend.wake())?;
        if let Err(error) = woken {
            return Ok(Err(error.to_string()));
        }
        self.is_asleep = false;
        self.metrics.set_sleep(SleepState::AWAKE);
        info!("the engine is awake");
        Ok(Ok(()))
    }
}
